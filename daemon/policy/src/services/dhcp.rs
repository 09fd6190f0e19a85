//! dhcpcd, for ports whose addresses are leased.
//!
//! * rendered: `dhcp/dhcpcd.conf`, only while some port asks for a lease
//! * checked: dhcpcd has no checker; what varies in its file are names of interfaces, which are valid by their type
//! * reloaded: its unit watches the file, and ends with it
//! * runs: the port has an address

use minijinja::context;

use super::render;
use crate::check::Checked;
use crate::model::DhcpFamily;
use crate::plan::File;

pub const UNIT: &str = "dhcp";
pub const PATH: &str = "dhcp/dhcpcd.conf";

const TEMPLATE: &str = include_str!("../../../../templates/services/dhcp/dhcpcd.conf");

/// The file, if any port is leased.
pub fn file(checked: &Checked) -> Option<(String, File)> {
    let leased = checked.config().interfaces.iter().filter(|(_, port)| !port.spec.dhcp.is_empty());
    let ports: Vec<_> = leased
        .map(|(name, port)| {
            let has = |family| port.spec.dhcp.contains(&family);
            context! { name => name.as_str(), ipv4 => has(DhcpFamily::Ipv4), ipv6 => has(DhcpFamily::Ipv6) }
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    // Compiling is total. A template that cannot be rendered becomes a file with which dhcpcd asks for nothing.
    let text = render(TEMPLATE, context! { ports }).unwrap_or_else(|_| "denyinterfaces *\n".to_owned());
    Some((PATH.to_owned(), File { text, mode: 0o644 }))
}
