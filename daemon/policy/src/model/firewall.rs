use std::fmt;
use std::str::FromStr;

use super::{AddressTerm, BadWord, Located, RuleSchedule, ServiceTerm, ZoneTerm};
use crate::name::Name;
use crate::problem::quote;
use crate::read::node::{Node, Value as NodeValue};
use crate::ruleset::Per;
use crate::shape::{Cx, Definitions, Fields, Shape, Word, shape};

shape! {
    /// Ordered rules; the first that matches decides. What no rule permits is dropped.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FirewallPolicy {
        /// Policies with a lower order come first; equal ones in the order of their names. Default 100.
        pub order: u32 = 100,
        /// From first to last.
        pub rules: Vec<Located<FirewallRule>>,
    }
}

shape! {
    /// Empty lists of addresses or services mean all of them. A rule holds for new connections; answers follow by themselves.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FirewallRule {
        /// Unique in its policy.
        pub name: Name,
        /// `box` here means what the gateway itself sends.
        pub from: Vec<ZoneTerm>,
        /// `box` here means what is addressed to the gateway.
        pub to: Vec<ZoneTerm>,
        /// Left out: every source address.
        pub sources: Vec<AddressTerm> = Vec::new(),
        /// Left out: every destination address.
        pub destinations: Vec<AddressTerm> = Vec::new(),
        /// Left out: every service.
        pub services: Vec<ServiceTerm> = Vec::new(),
        /// What happens to a new connection that matches.
        pub action: Action,
        /// `true`, or fields. Left out or `false`: nothing is logged.
        pub log: Option<LogSpec> = None,
        /// With `accept`: what goes beyond the rate is dropped. With `drop` and `reject` it is refused by `check`.
        pub rate_limit: Option<RateLimit> = None,
        /// Left out: always.
        pub schedule: Option<RuleSchedule> = None,
        /// Default true: packets and bytes, shown live.
        pub counter: bool = true,
        /// Default true.
        pub enabled: bool = true,
        /// For people; also in the kernel's listing.
        pub comment: Option<String> = None,
    }
}

shape! {
    /// What happens to a new connection that matches.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Action {
        /// It is let through, and its answers.
        Accept,
        /// It disappears without an answer.
        Drop,
        /// TCP gets a reset, everything else ICMP "administratively prohibited".
        Reject,
    }
}

/// `log: true`, or with a prefix. Packets go to NFLOG group 1 with the rule's id in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Up to 30 printable characters.
    pub prefix: Option<String>,
}

const MOST_PREFIX: usize = 30;

impl Shape for LogSpec {
    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        if matches!(node.value, NodeValue::Scalar { .. }) {
            return bool::read(node, cx).map(|_| LogSpec { prefix: None });
        }
        let mut fields = Fields::of(node, cx)?;
        let prefix = fields.take::<String>("prefix", None, cx);
        fields.finish(cx);
        let prefix = prefix?;
        // It travels in a kernel log line, in which only ASCII keeps its shape.
        if prefix.len() > MOST_PREFIX || !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"') {
            cx.field("prefix", |cx| {
                cx.problem(
                    node.line,
                    format!("{} does not fit; use up to {MOST_PREFIX} printable ASCII characters, no quotation marks", quote(&prefix)),
                )
            });
            return None;
        }
        Some(LogSpec { prefix: Some(prefix) })
    }

    fn read_optional(node: &Node, cx: &mut Cx) -> Option<Option<Self>> {
        match &node.value {
            NodeValue::Scalar { text, quoted: false } if text == "false" => Some(None),
            _ => Self::read(node, cx).map(Some),
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "anyOf": [
            { "type": "boolean" },
            {
                "type": "object",
                "properties": { "prefix": {
                    "type": "string", "minLength": 1, "maxLength": MOST_PREFIX, "pattern": "^[ !#-~]+$",
                    "description": "Stands in front of every line. Up to 30 printable ASCII characters."
                } },
                "required": ["prefix"],
                "additionalProperties": false,
            },
        ] })
    }
}

/// `20/second`, `20/second burst 50`. New connections, for the rule as a whole. Without `burst`, 5 may come at once, as in nftables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub rate: u32,
    pub per: Per,
    pub burst: u32,
}

const USUAL_BURST: u32 = 5;

impl Word for RateLimit {
    const WHAT: &'static str = "a rate of new connections, `20/second` or `20/second burst 50`; without `burst`, 5 may come at once";
    const PATTERN: &'static str = "^[0-9]{1,7}/(second|minute|hour)( burst [0-9]{1,7})?$";
    const EXAMPLES: &'static [&'static str] = &["20/second", "20/second burst 50", "100/minute"];

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a rate; write one like 20/second, 100/minute or 20/second burst 50", quote(text));
        let number = |part: &str| {
            let digits = Some(part).filter(|part| part.len() <= 7 && part.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|part| part.parse::<u32>().ok()).filter(|number| *number > 0).ok_or_else(wrong)
        };
        let (rate, burst) = text.split_once(" burst ").map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (rate, unit) = rate.split_once('/').ok_or_else(wrong)?;
        let per = match unit {
            "second" => Per::Second,
            "minute" => Per::Minute,
            "hour" => Per::Hour,
            _ => return Err(wrong()),
        };
        Ok(RateLimit { rate: number(rate)?, per, burst: burst.map_or(Ok(USUAL_BURST), number)? })
    }
}

impl FromStr for RateLimit {
    type Err = BadWord;
    fn from_str(text: &str) -> Result<Self, BadWord> {
        Self::parse(text).map_err(BadWord)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Hour => "hour",
        };
        write!(f, "{}/{unit} burst {}", self.rate, self.burst)
    }
}
