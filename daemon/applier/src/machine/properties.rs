//! The machine under any sequence of requests, failures, crashes and time.

use std::collections::{BTreeMap, BTreeSet};

use policy::Sources;
use policy::messages::DriftFinding;
use proptest::prelude::*;

use super::*;

pub mod world;

#[derive(Debug, Clone)]
enum Deed {
    Apply,
    ApplyBad,
    Confirm {
        old_connection: bool,
        stranger: bool,
    },
    GoBack,
    Earlier,
    SafeMode,
    Pass(u64),
    Jump(i64),
    Drift,
    CheckDrift,
    FailNext(&'static str),
    /// The process dies after this many further effects.
    CrashAfter(usize),
    Restart,
    /// The next changes map clients anew.
    Map(bool),
    /// What the health gate finds.
    Probed(bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::Apply),
        1 => Just(Deed::ApplyBad),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(old, stranger)| Deed::Confirm { old_connection: old && stranger, stranger: stranger && !old }),
        2 => Just(Deed::GoBack),
        1 => Just(Deed::Earlier),
        1 => Just(Deed::SafeMode),
        3 => (0..90_u64).prop_map(Deed::Pass),
        1 => (-100_000..100_000_i64).prop_map(Deed::Jump),
        1 => Just(Deed::Drift),
        1 => Just(Deed::CheckDrift),
        3 => prop::sample::select(vec!["save", "record", "install", "point", "unrecord", "lockdown", "repair"]).prop_map(Deed::FailNext),
        3 => (0..9_usize).prop_map(Deed::CrashAfter),
        1 => Just(Deed::Restart),
        1 => any::<bool>().prop_map(Deed::Map),
        3 => prop::bool::weighted(0.7).prop_map(Deed::Probed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_only_what_was_confirmed_stays(deeds in prop::collection::vec(deed(), 1..60)) {
        let mut world = world::World::new();
        for deed in &deeds {
            world.act(deed);
            world.check();
        }
        // Left alone on a machine that works, the box ends at what was confirmed last.
        world.failures.clear();
        world.crash_after = None;
        world.pass(3700);
        world.check();
        let home = world.disk.confirmed.filter(|_| world.disk.safe_mode.is_none());
        prop_assert_eq!(world.kernel(), home);
        prop_assert_eq!(world.machine.summary().contains("safe mode"), world.disk.safe_mode.is_some());
        prop_assert_eq!(world.disk.trial, None);
        prop_assert!(world.asked.is_empty(), "somebody was never answered");
        if !world.doubt {
            prop_assert_eq!(world.disk.confirmed, world.acknowledged);
        }
        world.restart();
        prop_assert_eq!(world.kernel(), home);
    }
}
