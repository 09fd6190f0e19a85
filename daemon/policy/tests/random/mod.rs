//! Random policies and packets for the property test here and the differential test in `daemon/kernel`.
//!
//! Both draw from one small world (the same few hosts and ports), so that rules and packets meet often.

#![allow(dead_code, reason = "each of the two tests uses its part")]

pub mod packets;
pub mod policies;

/// xorshift64*: the same seed tells the same story on every machine.
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// At least one, up to `most`, without repetition.
    pub fn some<'a, T: PartialEq>(&mut self, of: &'a [T], most: usize) -> Vec<&'a T> {
        let mut chosen = Vec::new();
        for _ in 0..=self.below(most) {
            let one = self.one(of);
            if !chosen.contains(&one) {
                chosen.push(one);
            }
        }
        chosen
    }
}

/// The ports of the box: name, zone, addresses of the box, the network's first three octets and IPv6 prefix.
pub struct Port {
    pub name: &'static str,
    pub zone: &'static str,
    pub net4: &'static str,
    pub net6: &'static str,
    pub own: u8,
}

pub const PORTS: [Port; 5] = [
    Port { name: "wan0", zone: "wan", net4: "203.0.113", net6: "2001:db8:113:", own: 2 },
    Port { name: "lan0", zone: "lan", net4: "192.168.2", net6: "fd00:2:", own: 1 },
    Port { name: "lan1", zone: "lan", net4: "192.168.5", net6: "fd00:5:", own: 1 },
    Port { name: "guest0", zone: "guest", net4: "192.168.3", net6: "fd00:3:", own: 1 },
    Port { name: "dmz0", zone: "dmz", net4: "192.168.4", net6: "fd00:4:", own: 1 },
];

pub const ZONES: [&str; 4] = ["wan", "lan", "guest", "dmz"];

/// The last numbers of the hosts that live behind each port.
pub const HOSTS: [u8; 4] = [10, 11, 12, 77];

/// Hosts that are behind a gateway, or nowhere.
pub const FAR4: [&str; 6] = ["198.51.100.10", "198.51.100.77", "9.9.9.9", "10.20.1.1", "10.20.7.7", "10.99.0.1"];
pub const FAR6: [&str; 4] = ["2001:db8:51::10", "2001:db8:51::77", "fd00:20::1", "fd00:99::1"];

/// The box's neighbours through which the far hosts are reached.
pub const GATEWAYS: [(&str, &str); 4] =
    [("203.0.113.1", "wan0"), ("2001:db8:113::1", "wan0"), ("192.168.2.254", "lan0"), ("fd00:2::fe", "lan0")];

/// Hardware addresses by which clients are mapped.
pub const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2], [2, 0, 0, 0, 9, 3]];

pub const SERVICES: [u16; 10] = [22, 53, 80, 443, 1000, 1001, 1005, 3128, 8080, 8443];

impl Port {
    pub fn host4(&self, number: u8) -> String {
        format!("{}.{number}", self.net4)
    }

    pub fn host6(&self, number: u8) -> String {
        format!("{}:{number:x}", self.net6)
    }
}
