//! The answer as text.

use std::fmt;
use std::net::IpAddr;

use super::query::{flag_words, service_words};
use super::{Client, Decided, Explanation, Translated};
use crate::name::IfName;
use crate::plan::Plan;
use crate::ruleset::Hook;
use crate::simulate::{Nat, Outcome, Packet, Seen, Verdict};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.verdict, self.packet)?;
        write!(f, "  enters {}", self.enters)?;
        match &self.leaves {
            Some(leaves) if self.verdict == "accepted" => writeln!(f, ", reaches {leaves}")?,
            Some(leaves) => writeln!(f, ", headed for {leaves}")?,
            None => writeln!(f)?,
        }
        for translated in &self.translations {
            writeln!(f, "  {} {} becomes {}: {}", translated.what, translated.before, translated.after, translated.by)?;
        }
        if let Some(Client { mapping, origin, via, .. }) = &self.client {
            writeln!(f, "  client of mapping {mapping} ({origin}), by {via}")?;
        }
        // What a permit decides is said in a sentence of its own.
        if self.times.is_empty() && self.verdict == "depends" {
            writeln!(f, "  {}", self.decided)?;
        } else if self.times.is_empty() {
            writeln!(f, "  decided by {}", self.decided)?;
        }
        for time in &self.times {
            writeln!(f, "  {:<10} {:<9} {}", time.at, time.verdict, time.decided)?;
        }
        writeln!(f, "  way")?;
        for step in &self.way {
            let rule = step.rule.as_ref().map(|rule| format!("  {rule}")).unwrap_or_default();
            let origin = step.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
            writeln!(f, "    {:<11} {:<20} {}{rule}{origin}", step.hook, step.chain, step.words)?;
        }
        Ok(())
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rule, &self.origin) {
            (Some(rule), Some(origin)) => write!(f, "{rule} ({origin}), {}", self.words),
            _ => f.write_str(&self.words),
        }
    }
}

pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Dropped => "dropped",
        Verdict::Rejected(_) => "rejected",
    }
}

pub fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    }
}

pub fn port(plan: &Plan, port: &IfName) -> String {
    match plan.zones.iter().find(|(_, ports)| ports.contains(port)) {
        Some((zone, _)) => format!("{port} (zone {zone})"),
        None => port.to_string(),
    }
}

/// `tcp/443 from 192.168.2.10:40000 to 1.1.1.1`
pub fn packet(packet: &Packet) -> String {
    let transport = packet.transport;
    let service = service_words(transport.protocol, transport.port);
    let flags = flag_words(transport.protocol, transport.tcp_flags);
    let source = if transport.has_ports() { with_port(packet.source, transport.source_port) } else { packet.source.to_string() };
    let destination = match packet.own {
        true if packet.destination.is_unspecified() => "the box's leased address".to_owned(),
        true => format!("{} (the box's own)", packet.destination),
        false => packet.destination.to_string(),
    };
    let mac = packet.mac.map(|mac| format!(" ({})", crate::model::Mac(mac))).unwrap_or_default();
    format!("{service}{flags} from {source}{mac} to {destination}")
}

fn with_port(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(_) => format!("{address}:{port}"),
        IpAddr::V6(_) => format!("[{address}]:{port}"),
    }
}

pub fn translations(packet: &Packet, outcome: &Outcome) -> Vec<Translated> {
    let ports = packet.transport.has_ports();
    let shown = |address: IpAddr, port: u16| if ports { with_port(address, port) } else { address.to_string() };
    let one = |translation: &crate::simulate::Translation| {
        let by = super::decided(&translation.decision);
        match translation.nat {
            Nat::Dnat(_) | Nat::Redirect(_) => Translated {
                what: "destination",
                before: shown(packet.destination, packet.transport.port),
                after: match outcome.own {
                    true => format!("the box's leased address, port {}", outcome.destination.1),
                    false => shown(outcome.destination.0, outcome.destination.1),
                },
                by,
            },
            Nat::Masquerade | Nat::Snat(_) => Translated {
                what: "source",
                before: shown(packet.source, packet.transport.source_port),
                after: match outcome.source {
                    Seen::Kept => shown(packet.source, packet.transport.source_port),
                    Seen::Port(None) => "the leased address of the port".to_owned(),
                    Seen::Port(Some(address)) | Seen::To(address, None) => address.to_string(),
                    Seen::To(address, Some((first, last))) => format!("{address}, ports {first}-{last}"),
                },
                by,
            },
        }
    };
    outcome.translations.iter().map(one).collect()
}
