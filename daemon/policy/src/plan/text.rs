//! The plan as people review it, and as its digest is computed: sections under `[name]`, each in the notation of the
//! tool that an administrator would use to look at the same thing on the box. Where a thing was written in the policy
//! is not part of it: moving a rule by a line changes nothing on the box.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter, Write as _};

use crate::name::{IfName, Name};

use super::{Link, Plan, Route, RouteAction, RouteKind, RouteRule, RouteSelector, Schedule, UnitState, Window};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut sections = Sections { out: f, first: true };
        sections.add("system", if self.hostname.is_empty() { String::new() } else { format!("hostname {}\n", self.hostname) })?;
        sections.add("zones", self.zones.iter().map(|(name, ports)| zone(name, ports, self.proxied.contains(name))).collect())?;
        sections.add("links", self.links.iter().map(|(name, link)| format!("{name}{link}\n")).collect())?;
        sections.add("routes", self.routes.iter().map(|route| format!("{route}\n")).collect())?;
        sections.add("route rules", self.route_rules.iter().map(|rule| format!("{rule}\n")).collect())?;
        sections.add("sysctls", self.sysctls.iter().map(|(key, value)| format!("{key} = {value}\n")).collect())?;
        sections.add("schedules", self.schedules.iter().map(|(name, schedule)| format!("{name}{schedule}\n")).collect())?;
        sections.add("proxy", super::proxy_text::section(&self.proxy))?;
        sections.add("ruleset", self.ruleset.to_string())?;
        for (path, file) in &self.files {
            // Indented, so that no line of a file can be taken for a section; with its size, so that equal text is an equal file.
            let indented = |line: &str| if line == "\n" { line.to_owned() } else { format!("    {line}") };
            let text: String = file.text.split_inclusive('\n').map(indented).collect();
            sections.add(&format!("file {path} mode {:04o}, {} bytes", file.mode, file.text.len()), text)?;
        }
        sections.add("units", self.units.iter().map(|(unit, state)| format!("{unit} {state}\n")).collect())
    }
}

fn zone(name: &Name, ports: &BTreeSet<IfName>, proxied: bool) -> String {
    let proxied = if proxied { " (proxied)" } else { "" };
    let ports: String = ports.iter().map(|port| format!(" {port}")).collect();
    format!("{name}:{ports}{proxied}\n")
}

struct Sections<'a, 'b> {
    out: &'a mut Formatter<'b>,
    first: bool,
}

impl Sections<'_, '_> {
    /// A section in which there is nothing to say is left out.
    fn add(&mut self, name: &str, text: String) -> fmt::Result {
        if text.is_empty() {
            return Ok(());
        }
        let gap = if std::mem::take(&mut self.first) { "" } else { "\n" };
        write!(self.out, "{gap}[{name}]\n{text}")?;
        if text.ends_with('\n') { Ok(()) } else { self.out.write_char('\n') }
    }
}

/// Follows the link's name: `lan0 mtu 1400` and an address on each further line.
impl Display for Link {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        f.write_str(if self.dhcp4 { " dhcp4" } else { "" })?;
        f.write_str(if self.dhcp6 { " dhcp6" } else { "" })?;
        self.addresses.iter().try_for_each(|address| write!(f, "\n  address {address}"))
    }
}

impl Display for Route {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Route { destination, kind, metric } = self;
        match kind {
            RouteKind::Via { gateway, interface } => write!(f, "{destination} via {gateway} dev {interface} metric {metric}"),
            RouteKind::Direct { interface } => write!(f, "{destination} dev {interface} metric {metric}"),
            RouteKind::Blackhole => write!(f, "blackhole {destination} metric {metric}"),
            RouteKind::Unreachable => write!(f, "unreachable {destination} metric {metric}"),
        }
    }
}

/// As `ip rule` and `ip -6 rule` both list it.
impl Display for RouteRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.preference)?;
        match self.selector {
            RouteSelector::FromBox => f.write_str(" from all iif lo")?,
            RouteSelector::WithoutMark { mask, value } => write!(f, " not from all fwmark {value:#x}/{mask:#x}")?,
            RouteSelector::Mark { mask, value } => write!(f, " from all fwmark {value:#x}/{mask:#x}")?,
        }
        f.write_str(match self.action {
            RouteAction::Main => " lookup main",
            RouteAction::Deliver => " lookup 100",
            RouteAction::Unreachable => " unreachable",
        })
    }
}

/// Follows the schedule's name: `office-hours: set sched_office-hours, Europe/Berlin` and a window on each further line.
impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, ": set {}, {} time", self.set, self.timezone)?;
        self.open.iter().try_for_each(|window| write!(f, "\n  open {window}"))
    }
}

/// `Mon 08:00 - Mon 18:00`; the week ends at `Sun 24:00`.
impl Display for Window {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        const DAY: u16 = 24 * 60;
        let moment = |day: u16, minute: u16| format!("{} {:02}:{:02}", DAYS[usize::from(day) % 7], minute / 60, minute % 60);
        // An end at midnight belongs to the day before.
        let last = self.to.saturating_sub(1) / DAY;
        write!(f, "{} - {}", moment(self.from / DAY, self.from % DAY), moment(last, self.to - last * DAY))
    }
}

impl Display for UnitState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnitState::Running => "running",
            UnitState::Stopped => "stopped",
        })
    }
}
