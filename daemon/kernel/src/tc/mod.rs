//! Rates of mapped clients (tc): to the client by the egress of its port, from the client by its ingress, which is led through one
//! `ifb` for all ports.
//!
//! ```text
//! box ──▶ lan0: htb 7070: ── class of the mapping (by destination) ──▶ client
//! client ──▶ lan0: ingress ── redirect (by source) ──▶ portcullis-up: htb 7070: ── class of the mapping ──▶ as if from lan0
//! ```
//!
//! Packets of nobody who is limited pass by all classes. What carries another handle, or another preference on the ingress, is
//! somebody else's and never touched.

mod message;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use policy::name::IfName;

use crate::{Difference, Error};
use message::{Qdisc, Tc};
use tree::{Direction, Filter, Tree};

/// A mapping's clients on one port, and what they may use together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shaped {
    pub id: u16,
    pub clients: BTreeSet<IpNet>,
    pub macs: BTreeSet<[u8; 6]>,
    /// Bits a second, to the client and from it.
    pub down: Option<u64>,
    pub up: Option<u64>,
}

/// Takes what ports send us, so that it can wait; made by us, and by this name known as ours.
pub const UP: &str = "portcullis-up";

/// Makes the rates hold, and takes ours away where none are left. Ports that are not there are passed over: without a port there
/// is nothing to limit.
pub fn reconcile(wanted: &BTreeMap<IfName, Vec<Shaped>>) -> Result<(), Error> {
    let mut tc = Tc::open()?;
    let plan = Plan::of(wanted);
    if !plan.up.is_empty() {
        tc.make_ifb(UP)?;
    }
    let ports = tc.links()?;
    let qdiscs = tc.qdiscs()?;
    if let Some(up) = ports.get(UP) {
        settle_tree(&mut tc, &qdiscs, UP, *up, &plan.up)?;
    }
    for (port, index) in ports.iter().filter(|(port, _)| *port != UP) {
        settle_tree(&mut tc, &qdiscs, port, *index, &plan.down(port))?;
        settle_ingress(&mut tc, &qdiscs, port, *index, &plan.redirected(port), ports.get(UP).copied())?;
    }
    if plan.up.is_empty() && ports.contains_key(UP) {
        tc.remove_link(UP, ports[UP])?;
    }
    Ok(())
}

/// Where the kernel's rates are not these.
pub fn differences(wanted: &BTreeMap<IfName, Vec<Shaped>>) -> Result<Vec<Difference>, Error> {
    let mut tc = Tc::open()?;
    let plan = Plan::of(wanted);
    let (ports, qdiscs) = (tc.links()?, tc.qdiscs()?);
    let mut out = Vec::new();
    let mut told = |what: String, meant: String, found: String| out.push(Difference { what, expected: meant, found });
    if !plan.up.is_empty() && !ports.contains_key(UP) {
        told(format!("link {UP}"), "present".into(), "absent".into());
    }
    for (port, index) in &ports {
        let meant = if port == UP { plan.up.clone() } else { plan.down(port) };
        let held = held_tree(&mut tc, &qdiscs, *index)?;
        if meant != held {
            told(format!("rates on {port}"), meant.words(), held.words());
        }
        if port == UP {
            continue;
        }
        let meant = plan.redirected(port);
        let held = held_redirects(&mut tc, &qdiscs, *index, ports.get(UP).copied())?;
        if meant != held {
            told(format!("redirection of {port} to {UP}"), format!("{} clients", meant.len()), format!("{} clients", held.len()));
        }
    }
    Ok(out)
}

/// The trees of all ports.
struct Plan<'a> {
    wanted: &'a BTreeMap<IfName, Vec<Shaped>>,
    up: Tree,
}

impl Plan<'_> {
    fn of(wanted: &BTreeMap<IfName, Vec<Shaped>>) -> Plan<'_> {
        Plan { wanted, up: Tree::of(wanted.values().flatten(), Direction::Up) }
    }

    fn of_port(&self, port: &str) -> impl Iterator<Item = &Shaped> {
        self.wanted.iter().filter(move |(name, _)| name.as_str() == port).flat_map(|(_, shaped)| shaped)
    }

    fn down(&self, port: &str) -> Tree {
        Tree::of(self.of_port(port), Direction::Down)
    }

    fn redirected(&self, port: &str) -> BTreeSet<Filter> {
        tree::redirected(&Tree::of(self.of_port(port), Direction::Up))
    }
}

/// Other rates for the same clients are changed in their place, and what waits there goes on waiting. Any other difference builds the
/// tree anew: for a moment the packets of its clients wait for nothing.
fn settle_tree(tc: &mut Tc, qdiscs: &[Qdisc], port: &str, index: u32, wanted: &Tree) -> Result<(), Error> {
    let held = held_tree(tc, qdiscs, index)?;
    if held == *wanted {
        return Ok(());
    }
    if held.filters == wanted.filters && held.rates.keys().eq(wanted.rates.keys()) {
        let mut changed = wanted.rates.iter().filter(|(id, rate)| held.rates[id] != **rate);
        return changed.try_for_each(|(id, rate)| tc.change_class(port, index, *id, *rate));
    }
    let root = qdiscs.iter().find(|qdisc| qdisc.index == index && qdisc.parent == message::ROOT);
    match root.map_or(0, |root| root.handle) {
        message::OURS => tc.remove_root(port, index)?,
        // Zero is the kernel's own choice.
        0 => {}
        other => {
            return Err(Error::Refused {
                what: format!("rates on {port}"),
                reason: format!("somebody else's queueing discipline {:x}: is at its root", other >> 16),
                errno: libc::EBUSY,
            });
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    tc.add_root(port, index)?;
    for (id, rate) in &wanted.rates {
        tc.add_class(port, index, *id, *rate)?;
    }
    wanted.filters.iter().try_for_each(|filter| tc.add_filter(port, index, message::OURS, filter, None))
}

fn held_tree(tc: &mut Tc, qdiscs: &[Qdisc], index: u32) -> Result<Tree, Error> {
    let ours = |qdisc: &&Qdisc| qdisc.index == index && qdisc.parent == message::ROOT && qdisc.handle == message::OURS;
    if qdiscs.iter().find(ours).is_none() {
        return Ok(Tree::default());
    }
    Ok(Tree { rates: tc.classes(index)?, filters: tc.filters(index, message::OURS, None)? })
}

fn settle_ingress(tc: &mut Tc, qdiscs: &[Qdisc], port: &str, index: u32, wanted: &BTreeSet<Filter>, up: Option<u32>) -> Result<(), Error> {
    let held = held_redirects(tc, qdiscs, index, up)?;
    if held == *wanted {
        return Ok(());
    }
    let ingress = ingress(qdiscs, index);
    if ingress.is_none() {
        tc.add_ingress(port, index)?;
    }
    let places: BTreeSet<(u16, u16)> = held.iter().map(|filter| (filter.preference, filter.protocol)).collect();
    places.into_iter().try_for_each(|(preference, protocol)| tc.remove_filters(port, index, message::INGRESS, preference, protocol))?;
    wanted.iter().try_for_each(|filter| tc.add_filter(port, index, message::INGRESS, filter, up))?;
    if wanted.is_empty() && ingress.is_some_and(|ingress| ingress.kind == "ingress") && !tc.has_filters(index, message::INGRESS)? {
        tc.remove_ingress(port, index)?;
    }
    Ok(())
}

fn held_redirects(tc: &mut Tc, qdiscs: &[Qdisc], index: u32, up: Option<u32>) -> Result<BTreeSet<Filter>, Error> {
    if ingress(qdiscs, index).is_none() {
        return Ok(BTreeSet::new());
    }
    let mut held = tc.filters(index, message::INGRESS, up)?;
    held.retain(|filter| tree::is_redirect(filter.preference));
    Ok(held)
}

/// `ingress` or `clsact`.
fn ingress(qdiscs: &[Qdisc], index: u32) -> Option<&Qdisc> {
    qdiscs.iter().find(|qdisc| qdisc.index == index && qdisc.parent == message::AT_INGRESS)
}
