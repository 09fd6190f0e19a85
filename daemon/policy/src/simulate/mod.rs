//! One packet's way through the plan: hooks, translations, routing, verdict.
//!
//! ```text
//! port ─▶ prerouting ─▶ (dnat) ─▶ routing ─┬─▶ input ─▶ the box
//!                                          └─▶ forward ─▶ postrouting (snat) ─▶ port
//! the box ─▶ routing ─▶ output ─▶ postrouting (snat) ─▶ port
//! ```
//!
//! Only the first packet of a connection is followed, since the kernel lets the rest follow it. The interpreter walks the
//! compiled plan and knows nothing of the policy, so that what it says is what will be installed. The differential test
//! in `daemon/kernel/tests` holds it against a real kernel.

pub mod chains;
pub mod conntrack;
pub mod fib;
pub mod matching;
pub mod packet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use chains::{Exit, Nat};
pub use fib::{AddressType, Fib, Hop};
pub use packet::{Ingress, Packet, Transport};

use crate::name::IfName;
use crate::plan::{Plan, RouteAction};
use crate::ruleset::{Base, Hook, Reject, Source, Table};

/// A plan made ready for packets.
pub struct World<'a> {
    pub plan: &'a Plan,
    pub fib: Fib,
    /// For each schedule's set, whether its element is there.
    pub schedules: BTreeMap<&'a str, bool>,
    /// Whether mappings have their permits.
    pub permits: bool,
    /// Whether the transparent sockets of the plan's rules are there.
    pub listens: bool,
}

/// What happened to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Where it ends, or where it was headed when it was refused.
    pub to: Option<Egress>,
    pub source: Seen,
    /// Address and port after translation.
    pub destination: (IpAddr, u16),
    /// The destination became an address of the box that the plan does not know.
    pub own: bool,
    pub translations: Vec<Translation>,
    pub decision: Decision,
    pub trace: Vec<Step>,
    /// Schedules that were looked at on the way.
    pub schedules: BTreeSet<String>,
}

/// The source as the receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// As it was sent.
    Kept,
    /// Masquerading picks the address of the outgoing port: known, or leased.
    Port(Option<IpAddr>),
    To(IpAddr, Option<(u16, u16)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Dropped,
    Rejected(Reject),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Egress {
    Interface(IfName),
    Box,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    pub nat: Nat,
    pub decision: Decision,
}

/// The rule or chain policy that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub hook: Hook,
    pub chain: String,
    pub source: Option<Source>,
    /// `accept`, `drop: invalid`, `no rule permits it: policy drop of chain forward`.
    pub words: String,
}

/// One line of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub hook: Hook,
    pub chain: String,
    pub source: Option<Source>,
    pub words: String,
}

/// The packet as the rules see it now.
pub struct View<'a> {
    pub iif: Option<&'a str>,
    pub oif: Option<&'a str>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub own: bool,
    pub transport: Transport,
    pub kind: AddressType,
    pub mark: u32,
    pub ct_state: u32,
    pub ct_status: u32,
    pub ct_mark: u32,
    /// The user of the sending socket, of what the box itself sends: root.
    pub user: Option<u32>,
    /// The hardware address of the sender, where it is known.
    pub mac: Option<[u8; 6]>,
    asked: BTreeSet<String>,
}

impl View<'_> {
    fn ipv6(&self) -> bool {
        self.destination.is_ipv6()
    }

    fn tracked(&self) -> bool {
        self.ct_state == conntrack::NEW
    }

    fn packet_type(&self) -> u8 {
        match self.kind {
            AddressType::Broadcast => 1,
            AddressType::Multicast => 2,
            _ => 0,
        }
    }
}

impl<'a> World<'a> {
    /// At this minute of the week, or with every schedule's window closed; mapped clients are let in.
    pub fn of(plan: &'a Plan, minute: Option<u16>) -> Self {
        let open = |schedule: &crate::plan::Schedule| minute.is_some_and(|now| schedule.open.iter().any(|w| (w.from..w.to).contains(&now)));
        let schedules = plan.schedules.values().map(|schedule| (schedule.set.as_str(), open(schedule))).collect();
        World { plan, fib: Fib::of(plan), schedules, permits: true, listens: true }
    }

    /// In the kernel's order: by priority, equal ones as they were added.
    pub fn base_chains(&self, hook: Hook) -> Vec<(&'a Table, &'a str, Base)> {
        let tables = self.plan.ruleset.tables.iter();
        let mut found: Vec<_> = tables
            .flat_map(|table| table.chains.iter().filter_map(move |(name, chain)| chain.base.map(|base| (table, name.as_str(), base))))
            .filter(|(_, _, base)| base.hook == hook)
            .collect();
        found.sort_by_key(|(_, _, base)| base.priority);
        found
    }

    /// The address that the kernel picks for redirect and masquerade: the port's first. None when it is leased.
    pub fn first_address(&self, port: &IfName, ipv6: bool) -> Option<IpAddr> {
        self.plan.links.get(port)?.addresses.iter().map(ipnet::IpNet::addr).find(|address| address.is_ipv6() == ipv6)
    }

    pub fn run(&self, packet: &Packet) -> Outcome {
        let iif = match &packet.from {
            Ingress::Interface(name) => Some(name.as_str()),
            Ingress::Box => None,
        };
        let mut view = View {
            iif,
            oif: None,
            source: packet.source,
            destination: packet.destination,
            own: packet.own,
            transport: packet.transport,
            kind: self.fib.kind(packet.destination, packet.own),
            mark: 0,
            ct_state: conntrack::state(packet.ipv6(), &packet.transport),
            ct_status: 0,
            ct_mark: 0,
            user: iif.is_none().then_some(0),
            mac: packet.mac,
            asked: BTreeSet::new(),
        };
        let mut way = Way { world: self, trace: Vec::new(), translations: Vec::new(), source: Seen::Kept };
        let (verdict, to, decision) = match &packet.from {
            Ingress::Interface(port) => way.received(port, &mut view),
            Ingress::Box => way.sent(&mut view),
        };
        Outcome {
            verdict,
            to,
            source: way.source,
            destination: (view.destination, view.transport.port),
            own: view.own,
            translations: way.translations,
            decision,
            trace: way.trace,
            schedules: view.asked,
        }
    }
}

struct Way<'w> {
    world: &'w World<'w>,
    trace: Vec<Step>,
    translations: Vec<Translation>,
    source: Seen,
}

type End = (Verdict, Option<Egress>, Decision);

impl<'w> Way<'w> {
    fn received(&mut self, port: &IfName, view: &mut View<'w>) -> End {
        let fib = &self.world.fib;
        if let Some(words) = refused_on_arrival(view) {
            return dropped(Hook::Prerouting, None, words);
        }
        if let Some(end) = self.hook(Hook::Prerouting, None, view, Some(port)) {
            return end;
        }
        if matches!(view.kind, AddressType::Local | AddressType::Anycast | AddressType::Broadcast | AddressType::Multicast) {
            if let Some(words) = refused_by_routing(fib, port, view, None) {
                return dropped(Hook::Prerouting, Some(Egress::Box), words);
            }
            return self.deliver(Hook::Input, Egress::Box, view);
        }
        let action = fib.action(view.mark, false);
        if action == RouteAction::Deliver {
            if let Some(words) = refused_by_routing(fib, port, view, None) {
                return dropped(Hook::Prerouting, Some(Egress::Box), words);
            }
            return self.deliver(Hook::Input, Egress::Box, view);
        }
        let forwarding = if view.ipv6() { fib.forwarding6 } else { fib.forwarding4 };
        if !forwarding {
            return dropped(Hook::Forward, None, "the box does not forward this family");
        }
        if action != RouteAction::Main {
            return dropped(Hook::Prerouting, None, "a routing rule refuses it: nothing has let it in");
        }
        let out = match fib.hops(view.destination, Some(port)).first() {
            None => return dropped(Hook::Prerouting, None, "no route leads to the destination"),
            Some(Hop::Blackhole) => return dropped(Hook::Prerouting, None, "the route is a blackhole"),
            Some(Hop::Unreachable) => return dropped(Hook::Prerouting, None, "the route says unreachable"),
            Some(Hop::Out(out)) => out.clone(),
        };
        if let Some(words) = refused_by_routing(fib, port, view, Some(&out)) {
            return dropped(Hook::Prerouting, Some(Egress::Interface(out)), words);
        }
        self.deliver(Hook::Forward, Egress::Interface(out), view)
    }

    fn sent(&mut self, view: &mut View<'w>) -> End {
        let fib = &self.world.fib;
        if view.kind == AddressType::Local {
            return self.deliver(Hook::Output, Egress::Box, view);
        }
        if fib.action(0, true) != RouteAction::Main {
            return dropped(Hook::Output, None, "a routing rule refuses it");
        }
        match fib.hops(view.destination, None).first() {
            Some(Hop::Out(out)) => self.deliver(Hook::Output, Egress::Interface(out.clone()), view),
            _ => dropped(Hook::Output, None, "no route leads to the destination"),
        }
    }

    /// The hook that decides about this egress, then source translation.
    fn deliver(&mut self, hook: Hook, egress: Egress, view: &mut View<'w>) -> End {
        let out = match &egress {
            Egress::Interface(name) => Some(self.world.fib.interfaces.iter().find(|known| *known == name).map_or("", IfName::as_str)),
            Egress::Box if hook == Hook::Output => Some("lo"),
            Egress::Box => None,
        };
        view.oif = out;
        let passage = chains::hook(self.world, hook, view, &mut self.trace, |_, _| {});
        let decision = passage.decision.unwrap_or_else(|| nobody(hook));
        match passage.exit {
            Exit::Drop => return (Verdict::Dropped, Some(egress), decision),
            Exit::Reject(kind) => return (Verdict::Rejected(kind), Some(egress), decision),
            _ => {}
        }
        if hook != Hook::Input
            && let Some(end) = self.hook(Hook::Postrouting, Some(&egress), view, None)
        {
            return end;
        }
        (Verdict::Accepted, Some(egress), decision)
    }

    /// A hook whose verdict matters only when it refuses; its translations are carried out. `port`: the port of arrival.
    fn hook(&mut self, hook: Hook, egress: Option<&Egress>, view: &mut View<'w>, port: Option<&IfName>) -> Option<End> {
        let before = self.trace.len();
        let (world, mut wanted) = (self.world, Vec::new());
        let passage = chains::hook(world, hook, view, &mut self.trace, |view, nat| {
            translate(world, view, nat, port);
            wanted.push(nat);
        });
        for nat in wanted {
            let step = self.trace[before..].iter().rev().find(|step| step.words.starts_with(nat.verb()));
            let decision = step.map_or_else(
                || nobody(hook),
                |s| Decision { hook, chain: s.chain.clone(), source: s.source.clone(), words: s.words.clone() },
            );
            match (nat, egress) {
                (Nat::Masquerade, Some(Egress::Interface(out))) => self.source = Seen::Port(world.first_address(out, view.ipv6())),
                (Nat::Snat(to), _) => self.source = Seen::To(to.address, to.ports),
                _ => {}
            }
            self.translations.push(Translation { nat, decision });
        }
        match passage.exit {
            Exit::Drop => Some((Verdict::Dropped, egress.cloned(), passage.decision.unwrap_or_else(|| nobody(hook)))),
            Exit::Reject(kind) => Some((Verdict::Rejected(kind), egress.cloned(), passage.decision.unwrap_or_else(|| nobody(hook)))),
            _ => None,
        }
    }
}

fn translate(world: &World, view: &mut View, nat: Nat, port: Option<&IfName>) {
    let (address, to_port, own) = match nat {
        Nat::Dnat(to) => (Some(to.address), to.ports.map(|ports| ports.0), false),
        Nat::Redirect(to_port) => {
            let found = port.and_then(|port| world.first_address(port, view.ipv6()));
            (found, to_port, found.is_none())
        }
        Nat::Masquerade | Nat::Snat(_) => return,
    };
    let before = (view.destination, view.transport.port);
    view.destination = address.unwrap_or(view.destination);
    if let Some(to_port) = to_port.filter(|_| view.transport.has_ports()) {
        view.transport.port = to_port;
    }
    // A translation that changes nothing leaves no trace in the connection (nf_nat_setup_info compares the tuples).
    if (view.destination, view.transport.port) != before || own {
        view.ct_status |= conntrack::STATUS_DNAT;
        view.own = own;
    }
    view.kind = world.fib.kind(view.destination, view.own);
}

/// ip6_rcv_core drops these before any hook.
fn refused_on_arrival(view: &View) -> Option<&'static str> {
    let odd = view.ipv6() && (view.source.is_loopback() || view.destination.is_loopback() || view.source.is_multicast());
    odd.then_some("the kernel refuses such addresses from a port")
}

/// What the kernel's routing refuses by itself: martians and the reverse path (net/ipv4/route.c, net/ipv6/ip6_output.c).
fn refused_by_routing(fib: &Fib, port: &IfName, view: &View, out: Option<&IfName>) -> Option<&'static str> {
    match (view.source, view.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let zero = source.octets()[0] == 0;
            if source.is_multicast() || source.is_broadcast() || source.is_loopback() || zero && !destination.is_broadcast() {
                return Some("the kernel refuses such a source (martian)");
            }
            if destination.octets()[0] == 0 || destination.is_loopback() && view.kind != AddressType::Broadcast {
                return Some("the kernel refuses such a destination (martian)");
            }
            if zero {
                return None;
            }
            reverse_path(fib, port, view, out)
        }
        (IpAddr::V6(source), IpAddr::V6(_)) if out.is_some() && (source.is_unspecified() || source.is_unicast_link_local()) => {
            Some("such a source is never forwarded")
        }
        _ => None,
    }
}

fn reverse_path(fib: &Fib, port: &IfName, view: &View, out: Option<&IfName>) -> Option<&'static str> {
    if !fib.strict_reverse_path.contains(port) {
        return None;
    }
    if fib.kind(view.source, false) != AddressType::Unicast {
        return Some("the source is the box's own address or a broadcast (rp_filter)");
    }
    if !fib.reverse_rules_permit(port, view.mark, out.is_some()) {
        return Some("the reverse path meets the routing rule for unmarked packets (rp_filter without src_valid_mark)");
    }
    let back = fib.hops(view.source, None);
    (!back.contains(&Hop::Out(port.clone()))).then_some("the answer would leave by another port (rp_filter)")
}

fn dropped(hook: Hook, to: Option<Egress>, words: &str) -> End {
    (Verdict::Dropped, to, Decision { hook, chain: String::new(), source: None, words: words.to_owned() })
}

fn nobody(hook: Hook) -> Decision {
    Decision { hook, chain: String::new(), source: None, words: "nothing forbids it".to_owned() }
}
