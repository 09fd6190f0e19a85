//! The box's ports as this process sees them itself: no other process has to live for that.

use std::collections::BTreeMap;
use std::fs;

use nix::ifaddrs::getifaddrs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub mac: String,
    /// `up`, `no cable`, `off`
    pub state: &'static str,
    pub speed: Option<u32>,
    pub addresses: Vec<String>,
}

pub fn all() -> Vec<Link> {
    let mut addresses = addresses();
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.sort();
    let link = |name: String| {
        let tells = |what: &str| fs::read_to_string(format!("/sys/class/net/{name}/{what}")).ok().map(|text| text.trim().to_owned());
        // ARPHRD_ETHER
        (tells("type")? == "1").then(|| Link {
            mac: tells("address").unwrap_or_default(),
            state: match tells("carrier").as_deref() {
                Some("1") => "up",
                Some(_) => "no cable",
                None => "off",
            },
            speed: tells("speed").and_then(|speed| speed.parse().ok()),
            addresses: addresses.remove(&name).unwrap_or_default(),
            name: name.clone(),
        })
    };
    names.into_iter().filter_map(link).collect()
}

fn addresses() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in getifaddrs().into_iter().flatten() {
        let Some(address) = entry.address else { continue };
        let prefix = |mask: &[u8]| mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
        let text = if let Some(v4) = address.as_sockaddr_in() {
            let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in().map(|mask| prefix(&mask.ip().octets())));
            format!("{}/{}", v4.ip(), mask.unwrap_or(32))
        } else if let Some(v6) = address.as_sockaddr_in6() {
            let mask = entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in6().map(|mask| prefix(&mask.ip().octets())));
            format!("{}/{}", v6.ip(), mask.unwrap_or(128))
        } else {
            continue;
        };
        found.entry(entry.interface_name).or_default().push(text);
    }
    found
}
