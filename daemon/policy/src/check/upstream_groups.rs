//! Groups of upstreams: their members exist, each once.

use super::Whole;
use super::report::{Report, Spot};
use crate::name::Name;
use crate::problem::nearest;

const MOST_GROUPS: usize = 1000;
const MOST_MEMBERS: usize = 100;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let groups = &whole.config.upstream_groups;
    for (name, resource) in groups {
        let (group, mut spot) = (&resource.spec, report.resource("UpstreamGroup", name, resource));
        if group.members.is_empty() {
            spot.field("members").say("a group without members carries nobody; name at least one Upstream");
        }
        for (at, member) in group.members.iter().enumerate() {
            upstream(whole, &mut spot.index("members", at), member);
            if group.members[..at].contains(member) {
                spot.index("members", at).say(format!("{member} stands here twice; keep one"));
            }
        }
        if group.members.len() > MOST_MEMBERS {
            spot.field("members").say(format!("these are {} members; at most {MOST_MEMBERS} are possible", group.members.len()));
        }
        for (field, count) in [("failAfter", group.fail_after), ("recoverAfter", group.recover_after)] {
            if !(1..=20).contains(&count) {
                spot.field(field).say(format!("{count} is not possible; write 1 to 20: it is how many probes in a row decide"));
            }
        }
    }
    if groups.len() > MOST_GROUPS {
        report.0.general(format!("the policy has {} groups of upstreams; at most {MOST_GROUPS} are possible", groups.len()));
    }
}

pub(super) fn upstream(whole: &Whole, spot: &mut Spot, name: &Name) {
    if whole.config.upstreams.contains_key(name) || whole.config.gaps.may_hide("Upstream", name.as_str()) {
        return;
    }
    if whole.config.upstream_groups.contains_key(name) {
        spot.say(format!("{name} is an UpstreamGroup; here stands the name of an Upstream"));
        return;
    }
    let known = whole.config.upstreams.keys().map(Name::as_str);
    spot.say(format!("there is no Upstream {name}; add one with this name or name another{}", nearest(name.as_str(), known)));
}
