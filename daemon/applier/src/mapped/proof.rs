//! The health gate: what a change maps anew has to be carried by at least one upstream before the change may go on trial.
//!
//! Pure: it is told what the forwarder says and what time it is, and comes to one verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::name::Name;
use policy::plan::proxy::Proxy;

use super::{members, same_way};

#[derive(Debug)]
pub struct Proof {
    deadline: Duration,
    /// Not proven yet, with the upstreams that could prove them.
    waiting: BTreeMap<Name, BTreeSet<Name>>,
    /// What was said of an upstream that is not good, and how often.
    bad: BTreeMap<Name, Bad>,
    /// Milliseconds since the epoch: only what was probed since counts.
    began: Option<u64>,
}

#[derive(Debug, Clone)]
struct Bad {
    why: String,
    probes: u32,
}

/// How long the forwarder has to take a policy and to probe what is new in it.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// One lost packet is not a dead upstream.
const PROBES: u32 = 2;

impl Proof {
    pub fn new(proxy: &Proxy, mappings: &BTreeSet<Name>, boot: Duration) -> Proof {
        let waiting = mappings.iter().map(|name| (name.clone(), members(proxy, name))).collect();
        Proof { deadline: boot + PATIENCE, waiting, bad: BTreeMap::new(), began: None }
    }

    /// The forwarder carries the new generation: what it should probe now.
    pub fn begin(&mut self, wall: u64) -> Vec<Name> {
        if self.began.is_some() {
            return vec![];
        }
        self.began = Some(wall);
        self.upstreams()
    }

    /// Without its password an upstream need not be asked.
    pub fn lacks_secret(&mut self, upstream: &Name, secret: &str) {
        let why = format!("its secret {secret} is not set");
        self.bad.insert(upstream.clone(), Bad { why, probes: PROBES });
    }

    /// Returns whether it should be probed once more. What was found out before the change, at `at`, says nothing of it: the upstream
    /// may have died since.
    pub fn heard(&mut self, upstream: &Name, at: u64, good: Result<(), String>) -> bool {
        if self.began.is_none_or(|began| at < began) {
            return false;
        }
        let why = match good {
            Ok(()) => {
                self.waiting.retain(|_, upstreams| !upstreams.contains(upstream));
                return false;
            }
            Err(why) => why,
        };
        let probes = self.bad.get(upstream).map_or(0, |bad| bad.probes) + 1;
        self.bad.insert(upstream.clone(), Bad { why, probes });
        probes < PROBES && self.waiting.values().any(|upstreams| upstreams.contains(upstream))
    }

    pub fn upstreams(&self) -> Vec<Name> {
        let all: BTreeSet<&Name> = self.waiting.values().flatten().collect();
        all.into_iter().cloned().collect()
    }

    /// None: not decided yet.
    pub fn verdict(&self, boot: Duration) -> Option<Result<(), String>> {
        if self.waiting.is_empty() {
            return Some(Ok(()));
        }
        let is_lost =
            |upstreams: &BTreeSet<Name>| upstreams.iter().all(|upstream| self.bad.get(upstream).is_some_and(|bad| bad.probes >= PROBES));
        let (name, upstreams) = match self.waiting.iter().find(|(_, upstreams)| is_lost(upstreams)) {
            Some(lost) => lost,
            None if boot >= self.deadline => self.waiting.iter().next()?,
            None => return None,
        };
        let silence = if self.began.is_some() { "its probe did not come back in time" } else { "the forwarder is not there to probe it" };
        let word = |upstream: &Name| format!("upstream {upstream}: {}", self.bad.get(upstream).map_or(silence, |bad| bad.why.as_str()));
        let words: Vec<String> = upstreams.iter().map(word).collect();
        let words = if words.is_empty() { "it has no upstream".into() } else { words.join("; ") };
        let others = self.waiting.len() - 1;
        let others = if others > 0 { format!(" (and {others} more are not proven)") } else { String::new() };
        Some(Err(format!("mapping {name} cannot be carried: {words}{others}")))
    }
}

/// Mappings whose clients go another way than before. One that is switched off has nothing to prove.
pub fn to_prove(before: Option<&Proxy>, after: &Proxy) -> BTreeSet<Name> {
    let is_known = |name: &Name| before.is_some_and(|before| same_way(before, after, name));
    let changed = after.mappings.iter().filter(|(name, mapping)| mapping.enabled && !is_known(name));
    changed.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use policy::plan::proxy::{MappingSchedule, Quota};

    use super::super::samples::{name, proxy};
    use super::*;

    const BEGIN: Duration = Duration::from_secs(100);
    const SECOND: Duration = Duration::from_secs(1);
    const NOW: u64 = 1_000_000;

    fn proof(names: &[&str]) -> Proof {
        Proof::new(&proxy(), &names.iter().map(|text| name(text)).collect(), BEGIN)
    }

    #[test]
    fn a_mapping_is_proven_by_one_good_upstream_of_its_group() {
        let mut proof = proof(&["many"]);
        assert_eq!(proof.begin(NOW), [name("lon"), name("par")]);
        assert!(proof.heard(&name("lon"), NOW, Err("refused".into())), "one failure is looked at again");
        assert!(!proof.heard(&name("lon"), NOW, Err("refused".into())));
        assert_eq!(proof.verdict(BEGIN), None);
        proof.heard(&name("par"), NOW, Ok(()));
        assert_eq!(proof.verdict(BEGIN), Some(Ok(())));
    }

    #[test]
    fn the_first_mapping_that_nothing_can_carry_ends_it_at_once_by_name_upstream_and_why() {
        let mut proof = proof(&["one", "many"]);
        proof.begin(NOW);
        for _ in 0..PROBES {
            proof.heard(&name("lon"), NOW, Err("connection refused".into()));
        }
        let why = proof.verdict(BEGIN).unwrap().unwrap_err();
        assert!(why.contains("mapping one") && why.contains("upstream lon: connection refused") && why.contains("1 more"), "{why}");
    }

    #[test]
    fn what_was_known_before_the_change_proves_nothing() {
        let mut proof = proof(&["one"]);
        proof.heard(&name("lon"), NOW, Ok(()));
        assert_eq!(proof.verdict(BEGIN), None, "nobody has been asked yet");
        proof.begin(NOW);
        proof.heard(&name("lon"), NOW - 1, Ok(()));
        assert_eq!(proof.verdict(BEGIN), None, "an answer from before");
        proof.heard(&name("lon"), NOW, Ok(()));
        assert_eq!(proof.verdict(BEGIN), Some(Ok(())));
    }

    #[test]
    fn silence_ends_it_at_the_deadline_and_says_whose() {
        let mut proof = proof(&["one"]);
        assert_eq!(proof.verdict(BEGIN + PATIENCE - SECOND), None);
        assert!(proof.verdict(BEGIN + PATIENCE).unwrap().unwrap_err().contains("forwarder is not there"));
        proof.begin(NOW);
        assert!(proof.verdict(BEGIN + PATIENCE).unwrap().unwrap_err().contains("did not come back in time"));
    }

    #[test]
    fn a_secret_that_is_not_set_is_told_without_waiting() {
        let mut proof = proof(&["one"]);
        proof.lacks_secret(&name("lon"), "london");
        assert!(proof.verdict(BEGIN).unwrap().unwrap_err().contains("secret london is not set"));
    }

    #[test]
    fn only_what_differs_is_proven_and_nothing_that_is_off() {
        let before = proxy();
        assert_eq!(to_prove(None, &before), [name("many"), name("one")].into());
        assert_eq!(to_prove(Some(&before), &before), BTreeSet::new());
        let mut after = before.clone();
        after.upstreams.get_mut(&name("par")).unwrap().port += 1;
        assert_eq!(to_prove(Some(&before), &after), [name("many")].into(), "an upstream of its group");
        let mut after = before.clone();
        after.mappings.get_mut(&name("one")).unwrap().id = 9;
        assert_eq!(to_prove(Some(&before), &after), BTreeSet::new(), "a number is not a setting");
        let one = after.mappings.get_mut(&name("one")).unwrap();
        one.quota = Quota { down: Some(1_000_000), daily: Some(1), ..Quota::default() };
        one.schedule = Some(MappingSchedule { timezone: "UTC".into(), open: vec![] });
        one.interfaces = ["lan1".try_into().unwrap()].into();
        assert_eq!(to_prove(Some(&before), &after), BTreeSet::new(), "how much and when is not which way");
        let mut after = before.clone();
        after.mappings.get_mut(&name("one")).unwrap().udp = true;
        assert_eq!(to_prove(Some(&before), &after), [name("one")].into());
        let mut after = before.clone();
        after.mappings.get_mut(&name("one")).unwrap().enabled = false;
        assert_eq!(to_prove(Some(&before), &after), BTreeSet::new());
    }
}
