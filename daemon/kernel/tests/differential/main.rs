//! The simulator against the kernel: random policies, random packets, and not one disagreement.
//!
//! Each policy is installed by this crate as the applier would install it (links, routes, rules, sysctls, one netlink batch) into a
//! namespace of its own; packets are put onto the wire by raw sockets in the namespaces around it, and what comes out is seen there
//! by capture, or in the box by raw sockets behind the input chain: port, addresses, ports, resets and ICMP refusals.

mod compare;
mod frames;
#[path = "../../../policy/tests/random/mod.rs"]
mod random;
mod wires;

use policy::plan::Plan;
use policy::ruleset::{Part, Verdict};
use policy::simulate::{Ingress, Packet, World};
use policy::{Sources, compile, load};
use random::{Random, packets, policies};
use wires::Wires;

/// Packets on the wire at the same time. More than ten echo requests to the box a second are refused by design.
const BATCH: usize = 40;
const ECHOES: usize = 8;

/// How the input chain lets in what is for the forwarder.
const CARRIED: &str = "accept: to the forwarder";

#[derive(Default)]
struct Tally {
    policies: usize,
    pairs: usize,
    accepted: usize,
    translated: usize,
    rejected: usize,
    /// Of mapped clients, to the forwarder's sockets, and dropped because they are mapped.
    carried: usize,
    blocked: usize,
    disagreements: Vec<String>,
}

#[test]
fn the_kernel_does_what_the_simulator_says() {
    let wanted = std::env::var("PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(2_400);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let tally = wires::alone(move |wires| {
        let mut tally = Tally::default();
        let mut seed = first;
        while tally.pairs < wanted {
            story(wires, seed, &mut tally, |_| {});
            seed += 1;
        }
        tally
    });
    println!(
        "{} policies, {} pairs: {} accepted, {} translated, {} rejected, {} carried, {} mapped and blocked, {} disagreements",
        tally.policies,
        tally.pairs,
        tally.accepted,
        tally.translated,
        tally.rejected,
        tally.carried,
        tally.blocked,
        tally.disagreements.len()
    );
    let shown = tally.disagreements.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(tally.disagreements.is_empty(), "{} disagreements of {} pairs\n{shown}", tally.disagreements.len(), tally.pairs);
    // Random worlds in which hardly anything passes would prove nothing.
    assert!(tally.accepted * 20 > tally.pairs && tally.translated * 100 > tally.pairs && tally.rejected * 100 > tally.pairs);
    assert!(tally.carried * 100 > tally.pairs && tally.blocked * 100 > tally.pairs, "{} carried, {} blocked", tally.carried, tally.blocked);
}

#[test]
fn a_simulator_that_reads_one_verdict_wrongly_is_caught() {
    let tally = wires::alone(|wires| {
        let mut tally = Tally::default();
        for seed in 1..9 {
            story(wires, seed, &mut tally, turn_accepts_around);
        }
        tally
    });
    println!("{} of {} pairs caught the mutation", tally.disagreements.len(), tally.pairs);
    assert!(!tally.disagreements.is_empty(), "the test cannot fail: {} pairs agreed with a wrong plan", tally.pairs);
}

/// Only in the simulated plan: the first permit of each pair of zones drops.
fn turn_accepts_around(plan: &mut Plan) {
    let chains = plan.ruleset.tables.iter_mut().flat_map(|table| table.chains.iter_mut());
    for (_, chain) in chains.filter(|(name, _)| name.starts_with("fwd_")) {
        let verdicts = chain.rules.iter_mut().filter_map(|rule| rule.parts.last_mut());
        if let Some(accept) = verdicts.into_iter().find(|part| **part == Part::Verdict(Verdict::Accept)) {
            *accept = Part::Verdict(Verdict::Drop);
        }
    }
}

/// One policy, one batch of packets.
fn story(wires: &mut Wires, seed: u64, tally: &mut Tally, mutate: impl Fn(&mut Plan)) {
    let mut random = Random::seeded(seed);
    let text = policies::policy(&mut random);
    let Ok(checked) = load(&Sources::single("random.yaml", text.as_str())) else { return };
    let mut plan = compile(&checked);
    let minute = random.below(7 * 24 * 60) as u16;
    wires.permits = random.chance(75);
    wires.install(&plan, minute);
    mutate(&mut plan);

    let mut world = World::of(&plan, Some(minute));
    world.permits = wires.permits;
    let packets = batch(&mut random, &world, wires.next_numbers());
    let observed = wires.exchange(&packets);
    for (packet, observed) in packets.iter().zip(observed) {
        let outcome = world.run(packet);
        tally.accepted += usize::from(outcome.verdict == policy::simulate::Verdict::Accepted);
        tally.translated += usize::from(!outcome.translations.is_empty());
        tally.carried += usize::from(outcome.decision.words == CARRIED);
        tally.blocked += usize::from(outcome.decision.source.as_ref().is_some_and(|source| source.id.starts_with("proxy/")));
        tally.rejected += usize::from(matches!(outcome.verdict, policy::simulate::Verdict::Rejected(_)));
        if let Err(words) = compare::compare(packet, &outcome, &observed) {
            let way: Vec<String> = outcome.trace.iter().map(|s| format!("  {:?} {} {}", s.hook, s.chain, s.words)).collect();
            let said = format!("simulator: {:?} to {:?}, decided {:?}", outcome.verdict, outcome.to, outcome.decision);
            tally.disagreements.push(format!("seed {seed}: {words}\n{packet:?}\n{said}\nkernel: {observed:?}\n{}", way.join("\n")));
        }
    }
    tally.policies += 1;
    tally.pairs += packets.len();
}

/// Packets that cannot be taken for each other's answers: each has its number as source port or ICMP identifier, and of
/// the protocols that have neither there is one of each.
fn batch(random: &mut Random, world: &World, first: u16) -> Vec<Packet> {
    let mut batch: Vec<Packet> = Vec::new();
    while batch.len() < BATCH {
        let mut packet = packets::packet(random);
        if random.chance(8) {
            let Some(own) = from_box(random, world, &packet) else { continue };
            packet = own;
        }
        let protocol = packet.transport.protocol;
        let same = batch.iter().filter(|other| other.transport.protocol == protocol).count();
        match protocol {
            _ if packet.transport.has_ports() => packet.transport.source_port = first + batch.len() as u16,
            1 | 58 if same >= ECHOES / 2 => continue,
            1 | 58 => {}
            _ if same > 0 => continue,
            _ => {}
        }
        batch.push(packet);
    }
    batch
}

/// A datagram that the box itself sends, from the address of the port that it will leave by.
fn from_box(random: &mut Random, world: &World, like: &Packet) -> Option<Packet> {
    let ipv6 = like.destination.is_ipv6();
    let out = world.fib.hops(like.destination, None).into_iter().find_map(|hop| match hop {
        policy::simulate::Hop::Out(port) => Some(port),
        _ => None,
    })?;
    let mut packet = like.clone();
    packet.from = Ingress::Box;
    packet.source = world.first_address(&out, ipv6)?;
    packet.transport.protocol = 17;
    packet.transport.port = *random.one(&random::SERVICES);
    packet.transport.tcp_flags = 0;
    Some(packet)
}
