//! Assertions: what they speak of must exist, or they would be true of nothing.

use super::Whole;
use super::report::Report;
use super::terms::TheBox;
use crate::model::ZoneTerm;

/// Each is proved over the whole packet space.
const MOST_ASSERTIONS: usize = 2000;

pub(super) fn check(whole: &Whole, report: &mut Report) {
    let assertions = &whole.config.assertions;
    for (name, resource) in assertions {
        let (assertion, mut spot) = (&resource.spec, report.resource("Assertion", name, resource));
        whole.zone_terms(&mut spot, "from", &assertion.from, TheBox::Allowed);
        whole.zone_terms(&mut spot, "to", &assertion.to, TheBox::Allowed);
        if assertion.from.iter().chain(&assertion.to).all(|term| *term == ZoneTerm::Box) {
            spot.say("what the box sends to itself is not filtered; name a zone in `from` or `to`");
        }
        whole.address_terms(&mut spot, "sources", &assertion.sources);
        whole.address_terms(&mut spot, "destinations", &assertion.destinations);
        whole.service_terms(&mut spot, "services", &assertion.services);
        whole.families_meet(&mut spot, &assertion.sources, &assertion.destinations, &assertion.services);
    }
    if assertions.len() > MOST_ASSERTIONS {
        report.0.general(format!("the policy has {} assertions; at most {MOST_ASSERTIONS} are proved: join some", assertions.len()));
    }
}
