//! The ruleset as `nft -f` reads it: what people review and what golden files hold.
//!
//! The notation keeps to what nft 1.0.6 and later accept, and as far as they agree, to what `nft list` prints, so that
//! the plan and a running box can be laid side by side. Long lists stand one element to a line: a change of one
//! address is a diff of one line.

use std::fmt::{self, Display, Formatter};

use super::datum::{Typed, bits, list};
use super::{
    Base, BasePolicy, Chain, ChainKind, Datum, Element, Field, Hook, Maps, Op, Operand, Part, Per, Reject, Rule, Ruleset, Set, Span, Table,
    Target, Verdict,
};

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| table.fmt(f))
    }
}

impl Ruleset {
    /// Text that replaces our tables in one transaction, whether they exist or not, and touches no others.
    pub fn script(&self) -> String {
        let mut script = String::new();
        for table in &self.tables {
            // `delete` fails on a table that does not exist; `add` before it makes sure that it does.
            script += &format!("add table inet {0}\ndelete table inet {0}\n{table}", table.name);
        }
        script
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.name)?;
        let mut gap = "";
        for (name, set) in &self.sets {
            f.write_str(gap)?;
            write_set(f, name, set)?;
            gap = "\n";
        }
        for (name, chain) in self.chains_in_order() {
            f.write_str(gap)?;
            write_chain(f, name, chain)?;
            gap = "\n";
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let key = set.key.iter().map(|field| field.data_type()).collect::<Vec<_>>().join(" . ");
    match set.maps_to {
        None => writeln!(f, "\tset {name} {{\n\t\ttype {key}")?,
        Some(maps) => writeln!(f, "\tmap {name} {{\n\t\ttype {key} : {}", if maps == Maps::Verdict { "verdict" } else { "mark" })?,
    }
    let flags = [(set.interval, "interval"), (set.timeout, "timeout")];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect::<Vec<_>>().join(",");
    if !flags.is_empty() {
        writeln!(f, "\t\tflags {flags}")?;
    }
    if set.counters {
        writeln!(f, "\t\tcounter")?;
    }
    if let Some(comment) = &set.comment {
        writeln!(f, "\t\tcomment {}", Quoted(comment))?;
    }
    if !set.elements.is_empty() {
        f.write_str("\t\telements = {\n")?;
        for (index, element) in set.elements.iter().enumerate() {
            f.write_str("\t\t\t")?;
            write_element(f, &set.key, element)?;
            f.write_str(if index + 1 < set.elements.len() { ",\n" } else { "\n" })?;
        }
        f.write_str("\t\t}\n")?;
    }
    f.write_str("\t}\n")
}

fn write_element(f: &mut Formatter<'_>, key: &[Field], element: &Element) -> fmt::Result {
    for (index, (field, span)) in key.iter().zip(&element.key).enumerate() {
        write!(f, "{}{}", if index > 0 { " . " } else { "" }, Typed(*field, *span))?;
    }
    if let Some(source) = &element.source {
        write!(f, " comment {}", Quoted(&source.id))?;
    }
    match &element.to {
        None => Ok(()),
        Some(Target::Verdict(verdict)) => write!(f, " : {verdict}"),
        Some(Target::Mark(mark)) => write!(f, " : 0x{mark:08x}"),
    }
}

fn write_chain(f: &mut Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(base) = &chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    f.write_str("\t}\n")
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let policy = match self.policy {
            BasePolicy::Accept => "accept",
            BasePolicy::Drop => "drop",
        };
        // The names that nft prints; dstnat and srcnat have one only in their own hook.
        let priority = match (self.priority, self.hook) {
            (-300, _) => "raw".to_owned(),
            (-150, _) => "mangle".to_owned(),
            (-140, _) => "mangle + 10".to_owned(),
            (-100, Hook::Prerouting) => "dstnat".to_owned(),
            (0, _) => "filter".to_owned(),
            (100, Hook::Postrouting) => "srcnat".to_owned(),
            (number, _) => number.to_string(),
        };
        write!(f, "type {kind} hook {hook} priority {priority}; policy {policy};")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (index, part) in self.parts.iter().enumerate() {
            if !implied(part, &self.parts[index + 1..]) {
                write!(f, "{gap}{}", InRule(part, &self.parts[..index]))?;
                gap = " ";
            }
        }
        match &self.comment {
            Some(comment) => write!(f, "{gap}comment {}", Quoted(comment)),
            None => Ok(()),
        }
    }
}

/// Whether nft derives this match from the next one, and leaves it out when it lists the rule: `ip saddr` implies IPv4,
/// `tcp dport` implies TCP, `icmp type` implies both.
fn implied(part: &Part, later: &[Part]) -> bool {
    let Some(value) = one_byte(part) else { return false };
    let next = |index: usize| later.get(index).map(fields_of).unwrap_or_default();
    let any = |wanted: &[Field]| next(0).iter().any(|field| wanted.contains(field));
    let then = |wanted: Field| next(0) == [Field::L4Proto] && next(1) == [wanted];
    match value {
        (Field::NfProto, 2) => any(&[Field::Ip4Saddr, Field::Ip4Daddr]) || then(Field::Icmp4Type),
        (Field::NfProto, 10) => any(&[Field::Ip6Saddr, Field::Ip6Daddr]) || then(Field::Icmp6Type),
        (Field::L4Proto, 1) => any(&[Field::Icmp4Type]),
        (Field::L4Proto, 58) => any(&[Field::Icmp6Type]),
        (Field::L4Proto, 6 | 17 | 132) => any(&[Field::Sport, Field::Dport, Field::TcpFlags]),
        _ => false,
    }
}

/// A comparison with a single byte.
fn one_byte(part: &Part) -> Option<(Field, u8)> {
    match part {
        Part::Match { field, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(byte))) } => Some((*field, *byte)),
        _ => None,
    }
}

fn fields_of(part: &Part) -> Vec<Field> {
    match part {
        Part::Match { field, .. } | Part::Masked { field, .. } => vec![*field],
        // A concatenation names ports as `th`, which implies nothing, but addresses still imply their family.
        Part::InSet { fields, .. } | Part::VerdictMap { fields, .. } | Part::MarkFromMap { fields, .. } => {
            fields.iter().copied().filter(|field| !matches!(field, Field::Sport | Field::Dport)).collect()
        }
        _ => Vec::new(),
    }
}

/// A part and the parts before it in the rule, which settle how ports are called.
struct InRule<'a>(&'a Part, &'a [Part]);

impl InRule<'_> {
    fn name(&self, field: Field) -> &'static str {
        let protocol = self.1.iter().rev().find_map(|part| match part {
            Part::Match { field: Field::L4Proto, .. } => Some(one_byte(part).map_or(0, |(_, protocol)| protocol)),
            _ => None,
        });
        match (field, protocol) {
            (Field::Sport, Some(6)) => "tcp sport",
            (Field::Dport, Some(6)) => "tcp dport",
            (Field::Sport, Some(17)) => "udp sport",
            (Field::Dport, Some(17)) => "udp dport",
            (Field::Sport, Some(132)) => "sctp sport",
            (Field::Dport, Some(132)) => "sctp dport",
            _ => field.name(),
        }
    }
}

impl Display for InRule<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Part::Match { field, op, to } => {
                let op = match op {
                    Op::Ne => " !=",
                    Op::Eq if field.is_bits() && matches!(to, Operand::One(_)) => " ==",
                    Op::Eq => "",
                };
                write!(f, "{}{op} {}", self.name(*field), list(*field, to))
            }
            Part::Masked { field, mask, op: Op::Ne, value: 0 } if matches!(field, Field::CtState | Field::CtStatus) => {
                write!(f, "{} {}", field.name(), bits(*field, *mask, ","))
            }
            Part::Masked { field, mask, op, value } => {
                let op = if *op == Op::Ne { "!=" } else { "==" };
                match bits(*field, *mask, " | ") {
                    many if many.contains('|') => write!(f, "{} & ({many}) {op} ", field.name())?,
                    one => write!(f, "{} & {one} {op} ", field.name())?,
                }
                f.write_str(&bits(*field, *value, " | "))
            }
            Part::InSet { fields, negate, set } => {
                write!(f, "{}{} @{set}", self.joined(fields), if *negate { " !=" } else { "" })
            }
            Part::VerdictMap { fields, map } => write!(f, "{} vmap @{map}", self.joined(fields)),
            Part::Limit { per, rate, burst, over } => {
                let over = if *over { "over " } else { "" };
                write!(f, "limit rate {over}{rate}/{per} burst {burst} packets")
            }
            Part::Counter => f.write_str("counter"),
            Part::Log { prefix, group } => {
                f.write_str("log")?;
                if !prefix.is_empty() {
                    write!(f, " prefix {}", Quoted(prefix))?;
                }
                group.map_or(Ok(()), |group| write!(f, " group {group}"))
            }
            Part::SetMark { mask, value } => write_set_mark(f, "meta mark", *mask, *value),
            Part::SetCtMark { mask, value } => write_set_mark(f, "ct mark", *mask, *value),
            Part::MarkFromMap { fields, map } => write!(f, "meta mark set {} map @{map}", self.joined(fields)),
            Part::CtMarkFromMark { mask: u32::MAX } => f.write_str("ct mark set meta mark"),
            Part::CtMarkFromMark { mask } => write!(f, "ct mark set meta mark & 0x{mask:08x}"),
            Part::Tproxy { port } => write!(f, "tproxy to :{port}"),
            Part::Masquerade => f.write_str("masquerade"),
            Part::Snat { to } => write!(f, "snat {to}"),
            Part::Dnat { to } => write!(f, "dnat {to}"),
            Part::Redirect { port } => {
                f.write_str("redirect")?;
                port.map_or(Ok(()), |port| write!(f, " to :{port}"))
            }
            Part::Reject(Reject::AdminProhibited) => f.write_str("reject with icmpx admin-prohibited"),
            Part::Reject(Reject::TcpReset) => f.write_str("reject with tcp reset"),
            Part::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl InRule<'_> {
    /// Ports in a concatenation are `th`: its other fields decide the protocol.
    fn joined(&self, fields: &[Field]) -> String {
        match fields {
            [one] => self.name(*one).to_owned(),
            many => many.iter().map(|field| field.name()).collect::<Vec<_>>().join(" . "),
        }
    }
}

fn write_set_mark(f: &mut Formatter<'_>, what: &str, mask: u32, value: u32) -> fmt::Result {
    // Setting every bit of the mask is an `or`; nft prints it so, whatever it was given.
    match (mask, value) {
        (u32::MAX, value) => write!(f, "{what} set 0x{value:08x}"),
        (mask, value) if mask == value => write!(f, "{what} set {what} | 0x{value:08x}"),
        (mask, 0) => write!(f, "{what} set {what} & 0x{:08x}", !mask),
        (mask, value) => write!(f, "{what} set {what} & 0x{:08x} | 0x{value:08x}", !mask),
    }
}

impl Display for super::NatTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ports = match self.ports {
            None => String::new(),
            Some((first, last)) if first == last => format!(":{first}"),
            Some((first, last)) => format!(":{first}-{last}"),
        };
        match self.address {
            std::net::IpAddr::V4(address) => write!(f, "ip to {address}{ports}"),
            std::net::IpAddr::V6(address) if ports.is_empty() => write!(f, "ip6 to {address}"),
            std::net::IpAddr::V6(address) => write!(f, "ip6 to [{address}]{ports}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Per {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Hour => "hour",
        })
    }
}

/// nft's strings have no escapes: what cannot stand in one is replaced.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let safe = |c: char| {
            if c == '"' {
                '\''
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        };
        write!(f, "\"{}\"", self.0.chars().map(safe).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(part: Part) -> String {
        Rule::of([part]).to_string()
    }

    #[test]
    fn a_single_value_of_bits_is_compared_as_a_whole() {
        let is = |op| Part::Match { field: Field::CtState, op, to: Operand::One(Span::One(Datum::Word(1))) };
        assert_eq!(written(is(Op::Eq)), "ct state == invalid");
        assert_eq!(written(is(Op::Ne)), "ct state != invalid");
        assert_eq!(written(Part::Masked { field: Field::CtState, mask: 1, op: Op::Ne, value: 0 }), "ct state invalid");
    }

    #[test]
    fn ranges_of_named_values_are_numbers() {
        let types = Operand::One(Span::Range(Datum::Byte(133), Datum::Byte(136)));
        assert_eq!(written(Part::Match { field: Field::Icmp6Type, op: Op::Eq, to: types }), "icmpv6 type 133-136");
    }

    #[test]
    fn no_text_of_the_administrator_ends_the_string_that_it_stands_in() {
        let rule = Rule::of([Part::Log { prefix: String::new(), group: Some(1) }]).because("\"; flush ruleset\n");
        assert_eq!(rule.to_string(), "log group 1 comment \"'; flush ruleset \"");
    }
}
