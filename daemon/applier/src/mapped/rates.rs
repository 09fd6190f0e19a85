//! The rates of a plan, by port, as the kernel is told of them.

use std::collections::{BTreeMap, BTreeSet};

use kernel::tc::Shaped;
use policy::name::IfName;
use policy::plan::proxy::{Mapping, Proxy};

/// A mapping that is limited is limited on every port behind which its clients may be.
pub fn rates(proxy: &Proxy) -> BTreeMap<IfName, Vec<Shaped>> {
    let mut rates: BTreeMap<IfName, Vec<Shaped>> = BTreeMap::new();
    let is_limited = |mapping: &&Mapping| mapping.quota.down.is_some() || mapping.quota.up.is_some();
    for mapping in proxy.mappings.values().filter(is_limited) {
        let macs: BTreeSet<[u8; 6]> = mapping.macs.iter().filter_map(|text| address(text)).collect();
        for interface in &mapping.interfaces {
            rates.entry(interface.clone()).or_default().push(Shaped {
                id: mapping.id,
                clients: mapping.clients.clone(),
                macs: macs.clone(),
                down: mapping.quota.down,
                up: mapping.quota.up,
            });
        }
    }
    rates
}

/// `02:00:00:00:00:01`, as the policy has been checked to write it.
fn address(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{name, proxy};
    use super::*;

    #[test]
    fn only_mappings_with_a_rate_are_shaped_and_on_each_of_their_ports() {
        let mut proxy = proxy();
        assert!(rates(&proxy).is_empty());
        let one = proxy.mappings.get_mut(&name("one")).unwrap();
        one.quota.down = Some(8_000_000);
        one.macs = BTreeSet::from(["02:00:00:00:00:0a".to_owned()]);
        one.interfaces = ["lan0", "lan1"].map(|port| port.try_into().unwrap()).into();
        let rates = rates(&proxy);
        assert_eq!(rates.len(), 2);
        let shaped = &rates[&"lan0".try_into().unwrap()];
        assert_eq!((shaped[0].id, shaped[0].down, shaped[0].up), (1, Some(8_000_000), None));
        assert_eq!(shaped[0].macs, BTreeSet::from([[2, 0, 0, 0, 0, 10]]));
    }
}
