//! The two interpreters of a plan, one packet at a time and all packets at once, must never disagree.

mod random;

use policy::simulate::{Egress, Ingress, Verdict, World};
use policy::space::flow::{Flow, within_limits};
use policy::space::{Free, Space};
use policy::{Sources, compile, load};
use random::{Random, packets, policies};

#[test]
fn a_packet_is_let_through_exactly_when_it_is_in_the_set() {
    let (mut plans, mut accepted, mut asked) = (0, 0, 0);
    for seed in 0..40 {
        let mut random = Random::seeded(seed);
        let text = policies::policy(&mut random);
        let checked = match load(&Sources::single("random.yaml", text.as_str())) {
            Ok(checked) => checked,
            Err(problems) => {
                println!("seed {seed} refused: {problems}");
                continue;
            }
        };
        plans += 1;
        let plan = compile(&checked);
        let minute = random.below(7 * 24 * 60) as u16;
        let mut world = World::of(&plan, Some(minute));
        (world.permits, world.listens) = (random.chance(70), random.chance(80));
        let mut space = Space::of(&[&plan]);
        let flow = Flow::of(&mut space, &world);
        let permitted = flow.all(&mut space);
        let permitted = within_limits(&mut space, permitted);
        for _ in 0..400 {
            let mut packet = packets::packet(&mut random);
            if random.chance(10) {
                packet.from = Ingress::Box;
            }
            let outcome = world.run(&packet);
            let out = match &outcome.to {
                Some(Egress::Interface(name)) => Some(name),
                _ => None,
            };
            let inside = space.contains(permitted, &packet, out, &|free| match free {
                Free::Schedule(set) => world.schedules.get(set.as_str()).is_some_and(|open| *open),
                Free::Permit { .. } => world.permits,
                Free::Listens(_) => world.listens,
                Free::Hardware(mac) => packet.mac == Some(*mac),
                _ => true,
            });
            let passed = outcome.verdict == Verdict::Accepted;
            assert_eq!(
                passed,
                inside,
                "seed {seed}: {}\n{packet:?}\n{outcome:#?}",
                if passed { "accepted, but not in the set" } else { "refused, but in the set" }
            );
            accepted += usize::from(passed);
            asked += 1;
        }
    }
    println!("{plans} policies, {asked} packets, {accepted} accepted");
    assert!(plans >= 20, "only {plans} random policies were accepted by check");
    assert!(accepted * 20 > asked, "too few accepted packets to mean anything: {accepted} of {asked}");
}
