use std::time::Duration;

use policy::messages::Tally;
use policy::ruleset::{Span, Target};

/// An element to be added to a named set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewElement {
    /// One span for each field of the set's key.
    pub key: Vec<Span>,
    pub to: Option<Target>,
    /// The kernel removes it by itself after this long; needs a set with `timeout`. None stays.
    pub timeout: Option<Duration>,
}

/// An element as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldElement {
    pub key: Vec<Span>,
    pub to: Option<Target>,
    /// How long it still lives.
    pub expires: Option<Duration>,
    pub tally: Option<Tally>,
}

impl<'a> From<&'a NewElement> for super::set::Item<'a> {
    fn from(element: &'a NewElement) -> Self {
        super::set::Item { key: &element.key, to: element.to.as_ref(), timeout: element.timeout, source: None }
    }
}

impl From<(policy::ruleset::Element, super::facts::ElementFacts)> for HeldElement {
    fn from((element, held): (policy::ruleset::Element, super::facts::ElementFacts)) -> Self {
        HeldElement { key: element.key, to: element.to, expires: held.live.expires.map(Duration::from_millis), tally: held.live.tally }
    }
}
