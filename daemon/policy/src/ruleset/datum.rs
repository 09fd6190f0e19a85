//! How nft writes fields and their values.

use std::fmt::{self, Display, Formatter};

use super::{Datum, Field, Operand, Span};

impl Field {
    /// As in a rule.
    pub fn name(self) -> &'static str {
        match self {
            Field::IifName => "iifname",
            Field::OifName => "oifname",
            Field::NfProto => "meta nfproto",
            Field::L4Proto => "meta l4proto",
            Field::Ip4Saddr => "ip saddr",
            Field::Ip4Daddr => "ip daddr",
            Field::Ip6Saddr => "ip6 saddr",
            Field::Ip6Daddr => "ip6 daddr",
            Field::Sport => "th sport",
            Field::Dport => "th dport",
            Field::TcpFlags => "tcp flags",
            Field::Icmp4Type => "icmp type",
            Field::Icmp6Type => "icmpv6 type",
            Field::CtState => "ct state",
            Field::CtStatus => "ct status",
            Field::CtMark => "ct mark",
            Field::Mark => "meta mark",
            Field::SkUid => "meta skuid",
            Field::PktType => "meta pkttype",
            Field::FibDaddrType => "fib daddr type",
            Field::EtherSaddr => "ether saddr",
        }
    }

    /// Whether nft reads a bare value as "has this bit" rather than "is".
    pub(super) fn is_bits(self) -> bool {
        matches!(self, Field::TcpFlags | Field::CtState | Field::CtStatus)
    }

    /// nft's data type, as in the declaration of a set.
    pub fn data_type(self) -> &'static str {
        match self {
            Field::IifName | Field::OifName => "ifname",
            Field::NfProto => "nf_proto",
            Field::L4Proto => "inet_proto",
            Field::Ip4Saddr | Field::Ip4Daddr => "ipv4_addr",
            Field::Ip6Saddr | Field::Ip6Daddr => "ipv6_addr",
            Field::Sport | Field::Dport => "inet_service",
            Field::TcpFlags => "tcp_flag",
            Field::Icmp4Type => "icmp_type",
            Field::Icmp6Type => "icmpv6_type",
            Field::CtState => "ct_state",
            Field::CtStatus => "ct_status",
            Field::CtMark | Field::Mark => "mark",
            Field::SkUid => "uid",
            Field::PktType => "pkt_type",
            Field::FibDaddrType => "fib_addrtype",
            Field::EtherSaddr => "ether_addr",
        }
    }
}

/// A value as nft writes it in the company of its field.
pub(super) struct Typed(pub Field, pub Span);

impl Display for Typed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Span::One(datum) => write_datum(f, self.0, datum),
            // The names of types hold hyphens themselves, so nft reads and lists ranges of them as numbers.
            Span::Range(Datum::Byte(first), Datum::Byte(last)) => write!(f, "{first}-{last}"),
            Span::Range(Datum::Word(first), Datum::Word(last)) => write!(f, "{first:#x}-{last:#x}"),
            Span::Range(first, last) => {
                write_datum(f, self.0, first)?;
                f.write_str("-")?;
                write_datum(f, self.0, last)
            }
            Span::Prefix(datum, length) => {
                write_datum(f, self.0, datum)?;
                write!(f, "/{length}")
            }
        }
    }
}

pub(super) fn list(field: Field, operand: &Operand) -> String {
    match operand {
        Operand::One(span) => Typed(field, *span).to_string(),
        Operand::Any(spans) => {
            let spans = spans.iter().map(|span| Typed(field, *span).to_string()).collect::<Vec<_>>();
            format!("{{ {} }}", spans.join(", "))
        }
    }
}

fn write_datum(f: &mut Formatter<'_>, field: Field, datum: Datum) -> fmt::Result {
    match datum {
        Datum::Interface(name) => write!(f, "\"{}\"", name.as_str()),
        Datum::V4(address) => write!(f, "{address}"),
        Datum::V6(address) => write!(f, "{address}"),
        Datum::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
        Datum::Port(port) => write!(f, "{port}"),
        Datum::Byte(byte) => match symbol(field, byte) {
            Some(symbol) => f.write_str(symbol),
            None => write!(f, "{byte}"),
        },
        Datum::Word(word) => f.write_str(&bits(field, word, ",")),
    }
}

/// The symbols that `nft describe` lists. Protocols stand for themselves only where /etc/protocols cannot vary.
fn symbol(field: Field, byte: u8) -> Option<&'static str> {
    Some(match (field, byte) {
        (Field::NfProto, 2) => "ipv4",
        (Field::NfProto, 10) => "ipv6",
        (Field::L4Proto, 1) => "icmp",
        (Field::L4Proto, 6) => "tcp",
        (Field::L4Proto, 17) => "udp",
        (Field::L4Proto, 50) => "esp",
        (Field::L4Proto, 51) => "ah",
        (Field::L4Proto, 58) => "ipv6-icmp",
        (Field::L4Proto, 132) => "sctp",
        (Field::PktType, 0) => "host",
        (Field::PktType, 1) => "broadcast",
        (Field::PktType, 2) => "multicast",
        (Field::FibDaddrType, 1) => "unicast",
        (Field::FibDaddrType, 2) => "local",
        (Field::FibDaddrType, 3) => "broadcast",
        (Field::FibDaddrType, 4) => "anycast",
        (Field::FibDaddrType, 5) => "multicast",
        (Field::Icmp4Type, 0) => "echo-reply",
        (Field::Icmp4Type, 3) => "destination-unreachable",
        (Field::Icmp4Type, 5) => "redirect",
        (Field::Icmp4Type, 8) => "echo-request",
        (Field::Icmp4Type, 11) => "time-exceeded",
        (Field::Icmp4Type, 12) => "parameter-problem",
        (Field::Icmp4Type, 13) => "timestamp-request",
        (Field::Icmp4Type, 14) => "timestamp-reply",
        (Field::Icmp6Type, 1) => "destination-unreachable",
        (Field::Icmp6Type, 2) => "packet-too-big",
        (Field::Icmp6Type, 3) => "time-exceeded",
        (Field::Icmp6Type, 4) => "parameter-problem",
        (Field::Icmp6Type, 128) => "echo-request",
        (Field::Icmp6Type, 129) => "echo-reply",
        (Field::Icmp6Type, 130) => "mld-listener-query",
        (Field::Icmp6Type, 131) => "mld-listener-report",
        (Field::Icmp6Type, 132) => "mld-listener-done",
        (Field::Icmp6Type, 133) => "nd-router-solicit",
        (Field::Icmp6Type, 134) => "nd-router-advert",
        (Field::Icmp6Type, 135) => "nd-neighbor-solicit",
        (Field::Icmp6Type, 136) => "nd-neighbor-advert",
        (Field::Icmp6Type, 137) => "nd-redirect",
        (Field::Icmp6Type, 143) => "mld2-listener-report",
        _ => return None,
    })
}

/// Bits by name, in nft's order; what has no name is written as a number.
pub(super) fn bits(field: Field, word: u32, glue: &str) -> String {
    let names: &[(u32, &str)] = match field {
        Field::TcpFlags => &[(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg")],
        Field::CtState => &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")],
        Field::CtStatus => &[(16, "snat"), (32, "dnat")],
        Field::Mark | Field::CtMark => return format!("0x{word:08x}"),
        _ => return word.to_string(),
    };
    let known = names.iter().fold(0, |sum, (bit, _)| sum | bit);
    if word == 0 || word & !known != 0 {
        return format!("0x{word:x}");
    }
    names.iter().filter(|(bit, _)| word & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(glue)
}
