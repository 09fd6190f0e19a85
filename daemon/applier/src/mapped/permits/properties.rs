//! Permits under any sequence of words, failures and time, against a kernel that keeps them as the real one does.

use proptest::prelude::*;

use policy::messages::forwarder::HealthStatus;
use policy::plan::Window;
use policy::plan::proxy::{MappingSchedule, Quota};

use super::*;
use crate::mapped::samples::{name, proxy};

#[derive(Debug, Clone)]
enum Deed {
    Stands { off: bool, unproven: bool },
    LockDown,
    Repair,
    Connect,
    Disconnect,
    Became { old: bool },
    State { old: bool, mapping: usize, up: Option<usize> },
    Health { old: bool, upstream: usize, exit: Option<usize>, status: HealthStatus },
    Own(usize),
    Secret(bool),
    Used(u64, u64),
    Pass(u64),
    KernelFails,
}

const EXITS: [&str; 3] = ["198.51.100.7", "203.0.113.9", "192.0.2.1"];
const MAPPINGS: [&str; 3] = ["one", "many", "nobody"];
const UPSTREAMS: [&str; 3] = ["lon", "par", "nobody"];
const LASTS: Duration = Duration::from_secs(90);
const DAILY: u64 = 100;
const MONTHLY: u64 = 300;

fn deed() -> impl Strategy<Value = Deed> {
    let status = || {
        use HealthStatus::{Degraded, Failed, Healthy, Unknown};
        prop::sample::select(vec![Healthy, Healthy, Healthy, Degraded, Failed, Unknown])
    };
    let which = || prop::sample::select(vec![0, 0, 0, 1, 1, 2_usize]);
    prop_oneof![
        1 => (any::<bool>(), any::<bool>()).prop_map(|(off, unproven)| Deed::Stands { off: off && unproven, unproven }),
        1 => Just(Deed::LockDown),
        1 => Just(Deed::Repair),
        1 => Just(Deed::Connect),
        1 => Just(Deed::Disconnect),
        4 => prop::bool::weighted(0.2).prop_map(|old| Deed::Became { old }),
        8 => (prop::bool::weighted(0.1), which(), prop::option::weighted(0.9, which())).prop_map(|(old, mapping, up)| Deed::State { old, mapping, up }),
        12 => (prop::bool::weighted(0.1), which(), prop::option::weighted(0.8, 0..3_usize), status())
            .prop_map(|(old, upstream, exit, status)| Deed::Health { old, upstream, exit, status }),
        1 => (0..3_usize).prop_map(Deed::Own),
        3 => prop::bool::weighted(0.8).prop_map(Deed::Secret),
        2 => (0..150_u64, 0..400_u64).prop_map(|(today, month)| Deed::Used(today, month)),
        3 => (0..120_u64).prop_map(Deed::Pass),
        1 => Just(Deed::KernelFails),
    ]
}

/// What is true, kept apart from what the permits believe.
struct World {
    permits: Permits,
    now: Now,
    generation: u64,
    proxy: Option<Proxy>,
    connected: bool,
    became: bool,
    states: BTreeMap<Name, MappingState>,
    exits: BTreeMap<Name, IpAddr>,
    status: BTreeMap<Name, HealthStatus>,
    heard: BTreeMap<Name, Duration>,
    /// Every health is another one.
    healths: u64,
    proven: BTreeSet<Name>,
    own: Option<IpAddr>,
    secret: bool,
    used: Used,
    /// Id to when it lapses.
    kernel: BTreeMap<u16, Duration>,
    fails: bool,
    granted: usize,
}

fn timed(off: bool) -> Proxy {
    let mut proxy = proxy();
    proxy.upstreams.get_mut(&name("lon")).unwrap().password = Some("london".into());
    proxy.upstreams.get_mut(&name("par")).unwrap().expect_exit = vec!["203.0.113.0/24".parse().unwrap()];
    let many = proxy.mappings.get_mut(&name("many")).unwrap();
    many.quota = Quota { daily: Some(DAILY), monthly: Some(MONTHLY), ..Quota::default() };
    // Every second five minutes.
    let open = (0..2016).step_by(2).map(|slot| Window { from: slot * 5, to: slot * 5 + 5 }).collect();
    many.schedule = Some(MappingSchedule { timezone: "UTC".into(), open });
    many.enabled = !off;
    proxy
}

impl World {
    fn new() -> World {
        let now = Now { boot: Duration::from_secs(1000), wall: 1_800_000_000_000 };
        World {
            permits: Permits::new(LASTS),
            now,
            generation: 0,
            proxy: None,
            connected: false,
            became: false,
            states: BTreeMap::new(),
            exits: BTreeMap::new(),
            status: BTreeMap::new(),
            heard: BTreeMap::new(),
            healths: 0,
            proven: BTreeSet::new(),
            own: None,
            secret: false,
            used: Used::default(),
            kernel: BTreeMap::new(),
            fails: false,
            granted: 0,
        }
    }

    /// Most of the time something stands and somebody carries.
    fn begun() -> World {
        let mut world = World::new();
        let deeds = [Deed::Secret(true), Deed::Stands { off: false, unproven: false }, Deed::Connect, Deed::Became { old: false }];
        deeds.iter().for_each(|deed| world.act(deed));
        world
    }

    fn act(&mut self, deed: &Deed) {
        match deed.clone() {
            Deed::Stands { off, unproven } => {
                let proxy = timed(off);
                self.generation += 1;
                self.table_is_new();
                let unproven: BTreeSet<Name> = if unproven { proxy.mappings.keys().cloned().collect() } else { BTreeSet::new() };
                self.proven = proxy.mappings.keys().filter(|name| !unproven.contains(*name)).cloned().collect();
                if self.proxy.is_none() {
                    self.exits.clear();
                    self.status.clear();
                    self.heard.clear();
                }
                self.proxy = Some(proxy.clone());
                self.tell(Input::Stands(Some(Carried { generation: self.generation, proxy: Rc::new(proxy), unproven })));
            }
            Deed::LockDown => {
                self.proxy = None;
                self.table_is_new();
                self.tell(Input::Stands(None));
            }
            Deed::Repair => {
                self.kernel.clear();
                self.tell(Input::Emptied);
            }
            Deed::Connect => {
                (self.connected, self.became) = (true, false);
                self.states.clear();
                self.exits.clear();
                self.status.clear();
                self.heard.clear();
                self.tell(Input::Connected);
            }
            Deed::Disconnect => {
                (self.connected, self.became) = (false, false);
                self.states.clear();
                self.tell(Input::Disconnected);
            }
            Deed::Became { old } => {
                let generation = self.generation - u64::from(old && self.generation > 0);
                self.became |= self.connected && self.proxy.is_some() && generation == self.generation;
                self.tell(Input::Said(FromForwarder::Became { generation }));
            }
            Deed::State { old, mapping, up } => {
                let generation = self.generation - u64::from(old && self.generation > 0);
                let state = up.map_or(MappingState::Down { why: "x".into() }, |up| MappingState::Up { upstream: name(UPSTREAMS[up]) });
                let states = BTreeMap::from([(name(MAPPINGS[mapping]), state.clone())]);
                if generation == self.generation && self.connected && self.proxy.is_some() {
                    self.states.insert(name(MAPPINGS[mapping]), state);
                }
                self.tell(Input::Said(FromForwarder::Mappings { generation, states }));
            }
            Deed::Health { old, upstream, exit, status } => {
                let generation = self.generation - u64::from(old && self.generation > 0);
                let exit = exit.map(|exit| EXITS[exit].parse().unwrap());
                let upstream = name(UPSTREAMS[upstream]);
                if generation == self.generation && self.proxy.is_some() {
                    self.status.insert(upstream.clone(), status);
                    self.heard.insert(upstream.clone(), self.now.boot);
                    if let Some(exit) = exit {
                        self.exits.insert(upstream.clone(), exit);
                        if status != HealthStatus::Failed && self.is_good_exit(&upstream) {
                            let proxy = self.proxy.clone().unwrap();
                            let led = |mapping: &&Name| crate::mapped::members(&proxy, mapping).contains(&upstream);
                            self.proven.extend(proxy.mappings.keys().filter(led).cloned());
                        }
                    }
                }
                self.healths += 1;
                let health = Health { at: self.healths, status, latency_us: None, exit, why: None };
                self.tell(Input::Said(FromForwarder::Health { generation, upstream, health }));
            }
            Deed::Own(exit) => {
                self.own = EXITS[exit].parse().ok();
                self.tell(Input::Own(self.own.into_iter().collect()));
            }
            Deed::Secret(set) => {
                self.secret = set;
                self.tell(Input::Secrets(set.then(|| "london".to_owned()).into_iter().collect()));
            }
            Deed::Used(today, this_month) => {
                self.used = Used { today, this_month };
                self.tell(Input::Used(BTreeMap::from([(name("many"), self.used)])));
            }
            Deed::Pass(halves) => {
                for _ in 0..halves {
                    self.now.boot += Duration::from_millis(500);
                    self.now.wall += 500;
                    self.kernel.retain(|_, until| *until > self.now.boot);
                    self.decide(vec![]);
                    self.check();
                }
            }
            Deed::KernelFails => self.fails = true,
        }
    }

    fn table_is_new(&mut self) {
        self.kernel.clear();
        self.states.clear();
        self.became = false;
    }

    fn tell(&mut self, input: Input) {
        self.decide(vec![input]);
    }

    fn decide(&mut self, inputs: Vec<Input>) {
        let mut inputs = inputs;
        // What failed is tried again with the next decision, here at once.
        loop {
            let effects = self.permits.handle(std::mem::take(&mut inputs), self.now);
            let fails = std::mem::take(&mut self.fails);
            for effect in effects {
                match effect {
                    Effect::Grant { id, lasts } if fails => {
                        assert!(lasts <= LASTS);
                        inputs.push(Input::NotGranted(id));
                    }
                    Effect::Grant { id, lasts } => {
                        self.granted += 1;
                        self.kernel.insert(id, self.now.boot + lasts);
                    }
                    Effect::Withdraw { mapping, id, .. } if fails => inputs.push(Input::NotWithdrawn { mapping, id }),
                    Effect::Withdraw { id, .. } => drop(self.kernel.remove(&id)),
                    Effect::End { id, .. } => assert!(!self.kernel.contains_key(&id), "a permit stands and only its flows end"),
                    Effect::Probe(_) => assert!(self.connected && self.became),
                }
            }
            if inputs.is_empty() {
                return;
            }
        }
    }

    fn is_good_exit(&self, upstream: &Name) -> bool {
        let Some(exit) = self.exits.get(upstream) else { return false };
        let expected = upstream.as_str() != "par" || exit.to_string().starts_with("203.0.113.");
        Some(*exit) != self.own && expected
    }

    fn may_be_let_in(&self, mapping: &str) -> Result<(), &'static str> {
        let proxy = self.proxy.as_ref().ok_or("nothing stands")?;
        let members = crate::mapped::members(proxy, &name(mapping));
        self.connected.then_some(()).ok_or("no link")?;
        self.became.then_some(()).ok_or("the forwarder carries something else")?;
        let Some(MappingState::Up { upstream }) = self.states.get(&name(mapping)) else { return Err("it is not up") };
        members.contains(upstream).then_some(()).ok_or("not its upstream")?;
        self.proven.contains(&name(mapping)).then_some(()).ok_or("not proven")?;
        let carries = |upstream: &Name| matches!(self.status.get(upstream), Some(HealthStatus::Healthy | HealthStatus::Degraded));
        let has_secret = |upstream: &Name| self.secret || upstream.as_str() != "lon";
        let is_new = |upstream: &Name| self.heard.get(upstream).is_some_and(|heard| self.now.boot < *heard + BELIEVED_FOR);
        let usable = |upstream: &Name| is_new(upstream) && carries(upstream) && has_secret(upstream) && self.is_good_exit(upstream);
        members.iter().any(usable).then_some(()).ok_or("no upstream can carry it")?;
        let wrong = |upstream: &Name| carries(upstream) && self.exits.contains_key(upstream) && !self.is_good_exit(upstream);
        (!members.iter().any(wrong)).then_some(()).ok_or("one comes out wrong")?;
        if mapping == "many" {
            (self.used.today < DAILY).then_some(()).ok_or("the day's quota is spent")?;
            (self.used.this_month < MONTHLY).then_some(()).ok_or("the month's quota is spent")?;
            proxy.mappings[&name(mapping)].enabled.then_some(()).ok_or("it is off")?;
            // 1970 began on a Thursday; the pattern of ten minutes is the same every day.
            (self.now.wall / 60_000 % 10 < 5).then_some(()).ok_or("its time is over")?;
        }
        Ok(())
    }

    fn check(&self) {
        for (mapping, id) in [("one", 1), ("many", 2)] {
            let permitted = self.kernel.contains_key(&id);
            let may = self.may_be_let_in(mapping);
            assert_eq!(permitted, may.is_ok(), "{mapping}: {may:?}");
            if let Some(shown) = self.permits.shown().get(&name(mapping)) {
                assert_eq!((shown.permitted, shown.blocked.is_none()), (permitted, permitted), "{mapping} is shown otherwise");
            }
        }
        assert!(self.kernel.keys().all(|id| [1, 2].contains(id)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_lets_in_exactly_whom_everything_speaks_for(deeds in prop::collection::vec(deed(), 1..80)) {
        let mut world = World::begun();
        for deed in &deeds {
            world.act(deed);
            world.check();
        }
    }
}

/// Otherwise the property above would prove little.
#[test]
fn the_deeds_do_lead_to_permits() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let stories = (0..200).map(|_| prop::collection::vec(deed(), 80).new_tree(&mut runner).unwrap().current());
    let granted = stories.filter(|deeds| {
        let mut world = World::begun();
        deeds.iter().for_each(|deed| world.act(deed));
        world.granted > 0
    });
    assert!(granted.count() > 40);
}
