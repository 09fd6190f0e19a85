//! Kernel settings under /proc/sys.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::{Difference, Error};

/// Written after everything else, in this order: the box forwards only once all the rest stands.
const LAST: [&str; 2] = ["net/ipv6/conf/all/forwarding", "net/ipv4/ip_forward"];

/// Writes each setting that differs; forwarding last.
///
/// Setting `ip_forward` resets per-interface settings when it changes (Documentation/networking/ip-sysctl.rst), so whatever it
/// undid is written once more afterwards.
pub fn write(wanted: &BTreeMap<String, String>) -> Result<(), Error> {
    let is_last = |key: &str| LAST.contains(&key);
    for (key, value) in wanted.iter().filter(|(key, _)| !is_last(key)) {
        write_one(key, value)?;
    }
    for key in LAST {
        if let Some(value) = wanted.get(key) {
            write_one(key, value)?;
        }
    }
    for (key, value) in wanted.iter().filter(|(key, _)| !is_last(key)) {
        write_one(key, value)?;
    }
    Ok(())
}

/// Stops forwarding in both families at once; what lockdown begins with.
pub fn stop_forwarding() -> Result<(), Error> {
    // A host that does not forward begins to accept redirects: Linux turns this setting over together with ip_forward.
    const REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";
    let redirects = read(REDIRECTS)?;
    LAST.iter().try_for_each(|key| write_one(key, "0"))?;
    write_one(REDIRECTS, &redirects)
}

pub fn read(key: &str) -> Result<String, Error> {
    let text = fs::read_to_string(path(key)?).map_err(Error::io(format!("read sysctl {key}")))?;
    Ok(text.trim_end().to_owned())
}

/// Settings that differ from the plan, those that this kernel does not have included.
pub fn differences(wanted: &BTreeMap<String, String>) -> Vec<Difference> {
    wanted
        .iter()
        .filter_map(|(key, expected)| {
            let found = read(key).unwrap_or_else(|error| error.to_string());
            (!equal(&found, expected)).then(|| Difference { what: format!("sysctl {key}"), expected: expected.clone(), found })
        })
        .collect()
}

fn write_one(key: &str, value: &str) -> Result<(), Error> {
    if read(key).is_ok_and(|found| equal(&found, value)) {
        return Ok(());
    }
    fs::write(path(key)?, value).map_err(Error::io(format!("set sysctl {key} to {value}")))
}

/// The kernel separates the fields of a setting with tabs.
fn equal(found: &str, wanted: &str) -> bool {
    found.split_whitespace().eq(wanted.split_whitespace())
}

fn path(key: &str) -> Result<PathBuf, Error> {
    let legal = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !key.split('/').all(legal) {
        return Err(Error::Inexpressible { what: format!("sysctl {key:?}"), why: "it is not a path below /proc/sys".into() });
    }
    Ok(PathBuf::from("/proc/sys").join(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_leads_out_of_proc_sys() {
        for bad in ["", "/etc/passwd", "net/../../etc", "net//ipv4", "."] {
            assert!(path(bad).is_err(), "{bad:?} passed");
        }
        assert_eq!(path("net/ipv4/conf/lan0.5/rp_filter").unwrap(), PathBuf::from("/proc/sys/net/ipv4/conf/lan0.5/rp_filter"));
    }
}
