use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Shaped;

/// Classes and how packets find them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Bytes a second, by the mapping's id.
    pub rates: BTreeMap<u16, u64>,
    pub filters: BTreeSet<Filter>,
}

/// A packet that has all the keys is of the class (u32: the one classifier that every kernel has, and that sees addresses of both
/// families and of Ethernet alike).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    pub preference: u16,
    /// Of Ethernet, in host order.
    pub protocol: u16,
    pub keys: Vec<Key>,
    /// The minor number of the class, or 0: redirected.
    pub class: u16,
}

/// Four bytes of the packet, from the network header on: in front of it lies Ethernet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub offset: i32,
    pub mask: u32,
    pub value: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Down,
    Up,
}

// A client that is named by its hardware address is that mapping's, whatever address it uses: first.
const BY_MAC: (u16, u16) = (1, libc::ETH_P_ALL as u16);
const BY_IPV4: (u16, u16) = (2, libc::ETH_P_IP as u16);
const BY_IPV6: (u16, u16) = (3, libc::ETH_P_IPV6 as u16);
/// Added to the preference on the ingress, where others may have filters too.
const REDIRECT: u16 = 0x7070;

impl Tree {
    pub fn of<'a>(shaped: impl Iterator<Item = &'a Shaped>, direction: Direction) -> Tree {
        let mut tree = Tree::default();
        for mapping in shaped {
            let rate = if direction == Direction::Down { mapping.down } else { mapping.up };
            let Some(rate) = rate else { continue };
            // A byte a second is the least that the kernel takes.
            tree.rates.insert(mapping.id, (rate / 8).max(1));
            let mut add = |(preference, protocol): (u16, u16), keys| {
                tree.filters.insert(Filter { preference, protocol, keys, class: mapping.id });
            };
            mapping.macs.iter().for_each(|mac| add(BY_MAC, mac_keys(mac, direction)));
            for client in &mapping.clients {
                add(if client.addr().is_ipv4() { BY_IPV4 } else { BY_IPV6 }, address_keys(client, direction));
            }
        }
        tree
    }

    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.filters.is_empty()
    }

    pub fn words(&self) -> String {
        match self.rates.len() {
            0 => "no limits".to_owned(),
            count => {
                let sum: u64 = self.rates.values().sum();
                format!("{count} mappings with {} bit/s together, {} clients", 8 * sum, self.filters.len())
            }
        }
    }
}

/// The same clients, as they are led to the ifb.
pub fn redirected(tree: &Tree) -> BTreeSet<Filter> {
    let redirect = |filter: &Filter| Filter { preference: REDIRECT + filter.preference, class: 0, ..filter.clone() };
    tree.filters.iter().map(redirect).collect()
}

pub fn is_redirect(preference: u16) -> bool {
    (REDIRECT + BY_MAC.0..=REDIRECT + BY_IPV6.0).contains(&preference)
}

/// Destination, then source, before the type and the network header (IEEE 802.3).
fn mac_keys(mac: &[u8; 6], direction: Direction) -> Vec<Key> {
    let begin = if direction == Direction::Down { -14 } else { -8 };
    let [a, b, c, d, e, f] = *mac;
    vec![
        Key { offset: begin, mask: u32::MAX, value: u32::from_be_bytes([a, b, c, d]) },
        Key { offset: begin + 4, mask: 0xffff_0000, value: u32::from_be_bytes([e, f, 0, 0]) },
    ]
}

fn address_keys(client: &IpNet, direction: Direction) -> Vec<Key> {
    let (begin, address, mask) = match (client.trunc(), direction) {
        (IpNet::V4(net), Direction::Up) => (12, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        (IpNet::V4(net), Direction::Down) => (16, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        (IpNet::V6(net), Direction::Up) => (8, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        (IpNet::V6(net), Direction::Down) => (24, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let words = address.chunks(4).zip(mask.chunks(4)).enumerate();
    let keys = words.map(|(place, (address, mask))| Key { offset: begin + 4 * place as i32, mask: word(mask), value: word(address) });
    // One that asks for nothing stays if there is no other.
    let keys: Vec<Key> = keys.enumerate().filter(|(place, key)| *place == 0 || key.mask != 0).map(|(_, key)| key).collect();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_limit_is_in_no_class() {
        let shaped = Shaped { id: 7, clients: ["10.0.0.0/8".parse().unwrap()].into(), up: Some(8000), ..Shaped::default() };
        assert!(Tree::of([&shaped].into_iter(), Direction::Down).is_empty());
        let up = Tree::of([&shaped].into_iter(), Direction::Up);
        assert_eq!(up.rates, BTreeMap::from([(7, 1000)]));
        let key = up.filters.first().unwrap().keys[0];
        assert_eq!(key, Key { offset: 12, mask: 0xff00_0000, value: 0x0a00_0000 });
        assert!(redirected(&up).iter().all(|filter| is_redirect(filter.preference)));
    }

    #[test]
    fn an_ipv6_prefix_is_compared_as_far_as_it_goes() {
        let keys = address_keys(&"fd00:2::/48".parse().unwrap(), Direction::Down);
        assert_eq!(keys, [Key { offset: 24, mask: u32::MAX, value: 0xfd00_0002 }, Key { offset: 28, mask: 0xffff_0000, value: 0 }]);
        assert_eq!(address_keys(&"::/0".parse().unwrap(), Direction::Up), [Key { offset: 8, mask: 0, value: 0 }]);
    }
}
