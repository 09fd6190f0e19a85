//! The kernel's switches that a gateway needs, each with the value that it must have.

use std::collections::BTreeMap;

use crate::model::{Config, DhcpFamily};
use crate::plan::proxy::Proxy;

/// For every link, now and later, and for each port.
const EVERYWHERE: [(&str, &str); 6] = [
    ("net/ipv4/conf/{}/rp_filter", "1"),
    ("net/ipv4/conf/{}/accept_redirects", "0"),
    ("net/ipv4/conf/{}/send_redirects", "0"),
    ("net/ipv4/conf/{}/accept_source_route", "0"),
    ("net/ipv6/conf/{}/accept_redirects", "0"),
    ("net/ipv6/conf/{}/accept_source_route", "0"),
];

const ONCE: [(&str, &str); 8] = [
    // rp_filter looks up the way back with mark 0 unless told to use the packet's; the routing rules would then find no
    // mark, call every source unreachable, and no IPv4 would be forwarded.
    ("net/ipv4/conf/all/src_valid_mark", "1"),
    ("net/ipv4/conf/all/log_martians", "0"),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

pub fn wanted(config: &Config, forwarder: &Proxy) -> BTreeMap<String, String> {
    let mut sysctls: BTreeMap<_, _> = ONCE.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let links = ["all", "default"].into_iter().chain(config.interfaces.keys().map(|name| name.as_str()));
    for link in links {
        sysctls.extend(EVERYWHERE.map(|(key, value)| (key.replace("{}", link), value.to_owned())));
    }
    for (name, interface) in &config.interfaces {
        // 2 listens to router advertisements although the box forwards (Documentation/networking/ip-sysctl.rst).
        let accept_ra = if interface.spec.dhcp.contains(&DhcpFamily::Ipv6) { "2" } else { "0" };
        sysctls.insert(format!("net/ipv6/conf/{name}/accept_ra"), accept_ra.to_owned());
    }
    if !forwarder.mappings.is_empty() {
        // What the forwarder accepts bears the mark of the packet that opened it, and so the mapping.
        sysctls.insert("net/ipv4/tcp_fwmark_accept".to_owned(), "1".to_owned());
        // So does an ICMP error over what it sends, which would otherwise go to the address that the client asked for.
        // One upstream is one address and port: thousands of short connections a second to it need every local port, and those that
        // wait out their time again (TIME_WAIT).
        sysctls.insert("net/ipv4/ip_local_port_range".to_owned(), "1024 60999".to_owned());
        sysctls.insert("net/ipv4/tcp_tw_reuse".to_owned(), "1".to_owned());
        for family in ["ipv4", "ipv6"] {
            sysctls.insert(format!("net/{family}/fwmark_reflect"), "1".to_owned());
        }
    }
    sysctls
}
