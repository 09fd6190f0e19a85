//! A small world: a client in the lan, the box, and a server far away.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::namespace::Namespace;

/// client .10 ── lan0 192.168.2.1 [box] 203.0.113.2 wan0 ── far 203.0.113.1, 198.51.100.10
pub struct Office {
    pub gate: Namespace,
    pub client: Namespace,
    pub far: Namespace,
}

pub const FAR: &str = "198.51.100.10";
pub const BOX: &str = "192.168.2.1";

impl Office {
    pub fn new() -> Office {
        let office = Office { gate: Namespace::new(), client: Namespace::new(), far: Namespace::new() };
        office.gate.cable("lan0", &office.client, "eth0", "192.168.2.10/24");
        office.gate.cable("wan0", &office.far, "eth0", "203.0.113.1/24");
        office.client.ip("route add default via 192.168.2.1");
        office.far.ip(&format!("addr add {FAR}/32 dev lo"));
        office.far.ip("route add 192.168.2.0/24 via 203.0.113.2");
        office
    }

    /// A server that accepts and holds.
    pub fn listen(inside: &Namespace, address: &str) {
        let address: SocketAddr = address.parse().expect("an address");
        inside.run(move || {
            let listener = TcpListener::bind(address).expect("a free port");
            std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        });
    }

    pub fn dial(inside: &Namespace, address: &str, patience: Duration) -> io::Result<TcpStream> {
        let address: SocketAddr = address.parse().expect("an address");
        inside.run(move || TcpStream::connect_timeout(&address, patience))
    }
}

/// A policy in which the administrator comes from `admin`, and these rules are added.
pub fn policy(admin: &str, rules: &str) -> String {
    let rules = if rules.is_empty() {
        String::new()
    } else {
        format!("---\napiVersion: portcullis/v1\nkind: FirewallPolicy\nmetadata: {{ name: office }}\nspec:\n  rules:\n{rules}")
    };
    format!(
        "apiVersion: portcullis/v1
kind: System
metadata: {{ name: box }}
spec: {{ hostname: gate, admin: {{ zones: {admin} }}, drift: repair }}
---
apiVersion: portcullis/v1
kind: Zone
metadata: {{ name: lan }}
spec: {{}}
---
apiVersion: portcullis/v1
kind: Zone
metadata: {{ name: wan }}
spec: {{}}
---
apiVersion: portcullis/v1
kind: Interface
metadata: {{ name: lan0 }}
spec: {{ zone: lan, addresses: [192.168.2.1/24] }}
---
apiVersion: portcullis/v1
kind: Interface
metadata: {{ name: wan0 }}
spec: {{ zone: wan, addresses: [203.0.113.2/24] }}
---
apiVersion: portcullis/v1
kind: Route
metadata: {{ name: default }}
spec: {{ destination: 0.0.0.0/0, via: 203.0.113.1, interface: wan0 }}
{rules}"
    )
}

pub const WEB: &str = "    - { name: web, from: lan, to: wan, services: tcp/80, action: accept }\n";
pub const SSH: &str = "    - { name: ssh, from: lan, to: wan, services: tcp/22, action: accept }\n";
