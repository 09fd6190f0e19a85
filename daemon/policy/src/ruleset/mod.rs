//! The packet filter as plain data, between the policy and the kernel.
//!
//! It says exactly what nftables will be told, in nftables' own terms, and nothing else. Two encoders read it (text
//! here, netlink in the `kernel` crate), and so does the simulator; whatever a variant means, it means in all three.
//! One rule is one conjunction: parts are evaluated left to right, and the first that does not match ends the rule.

mod datum;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::name::IfName;
use crate::source::Origin;

/// Every table that Portcullis installs. Applied as one batch: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub tables: Vec<Table>,
}

/// One `inet` table: IPv4 and IPv6 share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Held by the applier and kept by the kernel when it dies: flags `owner, persist` (Linux 6.9). Never part of the
    /// text form, since a file cannot own a table.
    pub owned: bool,
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, Chain>,
}

/// A named set or map. Everything that grows with the number of clients, addresses or rules lives in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Concatenated in this order; one field for a plain set.
    pub key: Vec<Field>,
    pub maps_to: Option<Maps>,
    /// Elements may be ranges and prefixes (`flags interval`). Elements never overlap.
    pub interval: bool,
    /// Elements carry a timeout (`flags timeout`), after which the kernel removes them by itself. They are held and renewed by the applier,
    /// and are no part of the plan: windows of schedules, permits of mappings.
    pub timeout: bool,
    /// Each element counts its packets and bytes.
    pub counters: bool,
    pub elements: Vec<Element>,
    pub comment: Option<String>,
}

/// What a map's elements lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Maps {
    Verdict,
    Mark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// One span for each field of the set's key.
    pub key: Vec<Span>,
    pub to: Option<Target>,
    /// Which rule this element stands for, when a verdict map replaces a run of rules.
    pub source: Option<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Verdict(Verdict),
    Mark(u32),
}

/// A chain; `base` makes the kernel call it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub kind: ChainKind,
    pub hook: Hook,
    /// Lower runs first (include/uapi/linux/netfilter_ipv4.h: raw -300, mangle -150, dstnat -100, filter 0, srcnat 100).
    pub priority: i32,
    pub policy: BasePolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasePolicy {
    Accept,
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub parts: Vec<Part>,
    /// None for the posture's own rules that no single line of the policy asked for.
    pub source: Option<Source>,
    /// Travels to the kernel as the rule's comment, so that `nft list ruleset` can be read. Up to 127 bytes.
    pub comment: Option<String>,
}

/// The policy rule that a compiled rule or element came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// `lan-out/web`: resource and rule. Counters are summed under it.
    pub id: String,
    pub origin: Origin,
}

/// One step of a rule: matches first, statements after, a verdict at most once and last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Match {
        field: Field,
        op: Op,
        to: Operand,
    },
    /// `tcp flags & mask == value` (or `!=`), and the same on marks and ct states.
    Masked {
        field: Field,
        mask: u32,
        op: Op,
        value: u32,
    },
    /// The concatenation of `fields` is in the named set (or is not, when negated).
    InSet {
        fields: Vec<Field>,
        negate: bool,
        set: String,
    },
    /// The concatenation is looked up; the element's verdict is followed; without an element the rule does not match.
    VerdictMap {
        fields: Vec<Field>,
        map: String,
    },
    /// Matches while the rate is not exceeded; with `over`, only when it is (a token bucket for the whole rule).
    Limit {
        per: Per,
        rate: u32,
        burst: u32,
        over: bool,
    },
    Counter,
    /// To the kernel log without a group, to NFLOG with one.
    Log {
        prefix: String,
        group: Option<u16>,
    },
    /// `meta mark set meta mark & !mask | value`.
    SetMark {
        mask: u32,
        value: u32,
    },
    /// The same on the connection's mark.
    SetCtMark {
        mask: u32,
        value: u32,
    },
    /// `meta mark set FIELDS map @map`: the whole mark becomes the element's; without an element the rule ends and the mark stays.
    MarkFromMap {
        fields: Vec<Field>,
        map: String,
    },
    /// `ct mark set meta mark & mask`. Nothing happens to a packet without a connection.
    CtMarkFromMark {
        mask: u32,
    },
    /// `tproxy to :port`, for both families: the packet is given to the transparent socket that listens there. Without one the rule
    /// ends. TCP or UDP must be settled before it in the rule. No verdict: those follow.
    Tproxy {
        port: u16,
    },
    Masquerade,
    Snat {
        to: NatTarget,
    },
    Dnat {
        to: NatTarget,
    },
    /// DNAT to the box itself.
    Redirect {
        port: Option<u16>,
    },
    Reject(Reject),
    Verdict(Verdict),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatTarget {
    /// Also fixes the family; the compiler puts a matching `NfProto` match before it.
    pub address: std::net::IpAddr,
    pub ports: Option<(u16, u16)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    One(Span),
    /// An anonymous constant set, for the short lists that a rule carries itself. Sorted, never overlapping.
    Any(Vec<Span>),
}

/// A single value, or an inclusive range of one field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    One(Datum),
    Range(Datum, Datum),
    /// Address and prefix length; the address has no host bits set.
    Prefix(Datum, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    Interface(FixedName),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Mac([u8; 6]),
    /// Protocol numbers, ICMP types, families (2 and 10), packet types.
    Byte(u8),
    /// Ports, host order.
    Port(u16),
    /// Marks, connection states and status bits, user ids, host order.
    Word(u32),
}

/// An interface name inline, so that [`Datum`] is `Copy`: 16 bytes, padded with zeros, as the kernel compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FixedName(pub [u8; 16]);

impl From<&IfName> for FixedName {
    fn from(name: &IfName) -> Self {
        let mut bytes = [0; 16];
        bytes[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        FixedName(bytes)
    }
}

impl FixedName {
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(16);
        std::str::from_utf8(&self.0[..end]).unwrap_or("?")
    }
}

/// What of a packet is looked at. The comment is nft's own name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `iifname`, by name since names survive a link that goes and comes back.
    IifName,
    /// `oifname`
    OifName,
    /// `meta nfproto`: 2 is IPv4, 10 is IPv6. Must precede the address fields of its family in a rule.
    NfProto,
    /// `meta l4proto`. Must precede ports, TCP flags and ICMP types in a rule.
    L4Proto,
    /// `ip saddr`
    Ip4Saddr,
    /// `ip daddr`
    Ip4Daddr,
    /// `ip6 saddr`
    Ip6Saddr,
    /// `ip6 daddr`
    Ip6Daddr,
    /// `th sport`, for TCP, UDP and SCTP alike
    Sport,
    /// `th dport`
    Dport,
    /// `tcp flags`, one byte: fin 1, syn 2, rst 4, psh 8, ack 16, urg 32
    TcpFlags,
    /// `icmp type`
    Icmp4Type,
    /// `icmpv6 type`
    Icmp6Type,
    /// `ct state`, a bit mask: invalid 1, established 2, related 4, new 8, untracked 64
    CtState,
    /// `ct status`, a bit mask: snat 16, dnat 32
    CtStatus,
    /// `ct mark`
    CtMark,
    /// `meta mark`
    Mark,
    /// `meta skuid`: who owns the sending socket
    SkUid,
    /// `meta pkttype`: host 0, broadcast 1, multicast 2
    PktType,
    /// `fib daddr type`: unicast 1, local 2, broadcast 3, anycast 4, multicast 5
    FibDaddrType,
    /// `ether saddr`. Packets that came through no Ethernet port have none; nft, and so the netlink encoder, first compares
    /// `meta iiftype` with `ether`.
    EtherSaddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Second,
    Minute,
    Hour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reject {
    /// ICMP or ICMPv6 administratively prohibited, by family (`reject with icmpx admin-prohibited`).
    AdminProhibited,
    /// TCP only: a reset.
    TcpReset,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Rule {
    /// A rule of the posture: it belongs to no line of the policy.
    pub fn of(parts: impl Into<Vec<Part>>) -> Self {
        Rule { parts: parts.into(), source: None, comment: None }
    }

    pub fn because(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

impl Table {
    /// The order in which chains are printed and created, so that both encoders list alike: the hooks in the order in which a
    /// packet meets them, then the chains that they call, by name.
    pub fn chains_in_order(&self) -> Vec<(&String, &Chain)> {
        let mut chains: Vec<_> = self.chains.iter().collect();
        chains.sort_by_key(|(_, chain)| chain.base.map_or((true, Hook::Prerouting, 0), |base| (false, base.hook, base.priority)));
        chains
    }
}

impl Ruleset {
    /// Every interface that any rule or element names, to see whether an interface is known to the ruleset.
    pub fn interfaces(&self) -> BTreeSet<&str> {
        let spans = self.tables.iter().flat_map(|table| table.sets.values()).flat_map(|set| &set.elements).flat_map(|element| &element.key);
        spans
            .filter_map(|span| match span {
                Span::One(Datum::Interface(name)) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }
}
