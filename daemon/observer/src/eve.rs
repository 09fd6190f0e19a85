//! Suricata's EVE: one JSON object a line. Source: Suricata 7 user guide, "EVE JSON Format".
//!
//! Only the fields that are stored or detected with are read, borrowed from the line; everything else stays in the line.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use policy::messages::observer::{EventKind, Severity};
use serde::Deserialize;

use crate::seen::Seen;

/// No event of Suricata's is that long by default; a longer line is garbage or an attack.
pub const MOST_LINE: usize = 256 << 10;

/// What a line says. None: it is no event, or one that only counts (`stats`).
pub fn read(line: &[u8]) -> Option<Seen> {
    let eve: Eve = serde_json::from_slice(line).ok()?;
    let at = time(&eve.timestamp)?;
    let kind = kind(&eve.event_type)?;
    let alert = eve.alert.as_ref();
    let message: &str = match kind {
        EventKind::Alert => alert.map(|alert| &*alert.signature),
        EventKind::Drop => alert.map(|alert| &*alert.signature).or(eve.drop.as_ref().and_then(|drop| drop.reason.as_deref())),
        EventKind::Anomaly => eve.anomaly.as_ref().and_then(|anomaly| anomaly.event.as_deref()),
        EventKind::Dns => eve.dns.as_ref().and_then(Dns::name),
        EventKind::Http => eve.http.as_ref().and_then(|http| http.hostname.as_deref()),
        EventKind::Tls => eve.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
        EventKind::Ssh => eve.ssh.as_ref().and_then(|ssh| ssh.client.as_ref()).and_then(|end| end.software_version.as_deref()),
        EventKind::Flow | EventKind::Other => None,
    }
    .unwrap_or_default();
    Some(Seen {
        at,
        kind,
        source: eve.src_ip,
        source_port: eve.src_port,
        destination: eve.dest_ip,
        destination_port: eve.dest_port,
        protocol: eve.proto.as_deref().and_then(protocol),
        severity: match (kind, alert.map(|alert| alert.severity)) {
            // 1 is Suricata's worst.
            (EventKind::Alert, Some(1)) => Severity::Critical,
            (EventKind::Alert, Some(2)) | (EventKind::Drop, _) => Severity::Warning,
            _ => Severity::Info,
        },
        flow: eve.flow_id,
        signature: alert.map(|alert| alert.signature_id),
        message: clip(message).into(),
        // A port that is closed answers with one packet, one that is filtered with none.
        talked: eve.flow.as_ref().is_none_or(|flow| flow.pkts_toclient > 1),
        blocked: kind == EventKind::Drop || alert.is_some_and(|alert| alert.action == "blocked"),
        line: 0..0,
    })
}

#[derive(Deserialize)]
struct Eve<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    src_ip: Option<IpAddr>,
    src_port: Option<u16>,
    dest_ip: Option<IpAddr>,
    dest_port: Option<u16>,
    #[serde(borrow)]
    proto: Option<Cow<'a, str>>,
    flow_id: Option<u64>,
    #[serde(borrow)]
    alert: Option<Alert<'a>>,
    #[serde(borrow)]
    drop: Option<Drop<'a>>,
    #[serde(borrow)]
    anomaly: Option<Anomaly<'a>>,
    #[serde(borrow)]
    dns: Option<Dns<'a>>,
    #[serde(borrow)]
    http: Option<Http<'a>>,
    #[serde(borrow)]
    tls: Option<Tls<'a>>,
    #[serde(borrow)]
    ssh: Option<Ssh<'a>>,
    flow: Option<Flow>,
}

#[derive(Deserialize)]
struct Flow {
    #[serde(default)]
    pkts_toclient: u64,
}

#[derive(Deserialize)]
struct Alert<'a> {
    signature_id: u64,
    #[serde(borrow)]
    signature: Cow<'a, str>,
    severity: u8,
    #[serde(borrow, default)]
    action: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Drop<'a> {
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Anomaly<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Dns<'a> {
    #[serde(borrow)]
    rrname: Option<Cow<'a, str>>,
    /// Version 3 of the format lists what was asked.
    #[serde(borrow, default)]
    queries: Vec<Query<'a>>,
}

#[derive(Deserialize)]
struct Query<'a> {
    #[serde(borrow)]
    rrname: Option<Cow<'a, str>>,
}

impl Dns<'_> {
    fn name(&self) -> Option<&str> {
        self.rrname.as_deref().or_else(|| self.queries.first()?.rrname.as_deref())
    }
}

#[derive(Deserialize)]
struct Http<'a> {
    #[serde(borrow)]
    hostname: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tls<'a> {
    #[serde(borrow)]
    sni: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Ssh<'a> {
    #[serde(borrow)]
    client: Option<SshEnd<'a>>,
}

#[derive(Deserialize)]
struct SshEnd<'a> {
    #[serde(borrow)]
    software_version: Option<Cow<'a, str>>,
}

fn kind(word: &str) -> Option<EventKind> {
    Some(match word {
        "stats" => return None,
        "alert" => EventKind::Alert,
        "drop" => EventKind::Drop,
        "anomaly" => EventKind::Anomaly,
        "dns" => EventKind::Dns,
        "http" => EventKind::Http,
        "tls" => EventKind::Tls,
        "ssh" => EventKind::Ssh,
        "flow" => EventKind::Flow,
        _ => EventKind::Other,
    })
}

fn protocol(word: &str) -> Option<u8> {
    Some(match word {
        "TCP" => 6,
        "UDP" => 17,
        "ICMP" => 1,
        "IPv6-ICMP" => 58,
        "SCTP" => 132,
        other => other.parse().ok()?,
    })
}

/// `2026-11-28T06:33:01.123456+0000`. Suricata writes this one form, so it is read by position; any other goes the slow way.
fn time(text: &str) -> Option<i64> {
    fast_time(text.as_bytes()).or_else(|| {
        let zoned = jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text).ok()?.to_timestamp().ok()?;
        Some(zoned.as_microsecond())
    })
}

fn fast_time(text: &[u8]) -> Option<i64> {
    let text: &[u8; 31] = text.try_into().ok()?;
    let number = |from: usize, to: usize| -> Option<i64> {
        text.get(from..to)?.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
    if marks.iter().any(|(place, mark)| text[*place] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, micro) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    let offset = (number(27, 29)? * 60 + number(29, 31)?) * 60;
    let offset = match text[26] {
        b'+' => offset,
        b'-' => -offset,
        _ => return None,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 || !(1970..=2200).contains(&year) {
        return None;
    }
    Some(((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset) * 1_000_000) + micro)
}

/// Days since 1970-01-01 in the Gregorian calendar, the year beginning in March so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// As many whole characters as 200 bytes hold: a name is for people, the line has all of it.
fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(200)).unwrap_or(text)
}

/// Microseconds since the epoch.
pub fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERT: &str = r#"{"timestamp":"2026-11-28T06:33:01.123456+0100","flow_id":1234567890123,"in_iface":"eth1","event_type":"alert","src_ip":"203.0.113.7","src_port":50123,"dest_ip":"192.168.2.10","dest_port":22,"proto":"TCP","alert":{"action":"blocked","gid":1,"signature_id":2001219,"rev":20,"signature":"ET SCAN Potential SSH Scan","category":"Attempted Information Leak","severity":2},"app_proto":"ssh"}"#;

    #[test]
    fn an_alert_is_read_with_everything_that_is_stored() {
        let seen = read(ALERT.as_bytes()).unwrap();
        assert_eq!(seen.kind, EventKind::Alert);
        assert_eq!(seen.at, "2026-11-28T05:33:01.123456Z".parse::<Timestamp>().unwrap().as_microsecond());
        assert_eq!((seen.source, seen.source_port), ("203.0.113.7".parse().ok(), Some(50123)));
        assert_eq!((seen.destination, seen.destination_port), ("192.168.2.10".parse().ok(), Some(22)));
        assert_eq!((seen.protocol, seen.signature, seen.flow), (Some(6), Some(2_001_219), Some(1_234_567_890_123)));
        assert_eq!((&*seen.message, seen.severity, seen.blocked), ("ET SCAN Potential SSH Scan", Severity::Warning, true));
    }

    #[test]
    fn names_are_taken_from_where_each_kind_has_them() {
        let of = |rest: &str| {
            read(format!(r#"{{"timestamp":"2026-11-28T06:33:01.123456+0000",{rest}}}"#).as_bytes()).map(|seen| seen.message.to_string())
        };
        assert_eq!(of(r#""event_type":"dns","dns":{"rrname":"a.example"}"#).unwrap(), "a.example");
        assert_eq!(of(r#""event_type":"dns","dns":{"version":3,"queries":[{"rrname":"b.example"}]}"#).unwrap(), "b.example");
        assert_eq!(of(r#""event_type":"http","http":{"hostname":"c.example"}"#).unwrap(), "c.example");
        assert_eq!(of(r#""event_type":"tls","tls":{"sni":"d.\u0065xample"}"#).unwrap(), "d.example");
        assert_eq!(of(r#""event_type":"flow""#).unwrap(), "");
        assert_eq!(of(r#""event_type":"stats""#), None);
    }

    #[test]
    fn garbage_is_no_event_and_no_panic() {
        for line in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", br#"{"timestamp":"yesterday","event_type":"alert"}"#, &[b'['; 100_000]] {
            assert!(read(line).is_none(), "{}", String::from_utf8_lossy(&line[..line.len().min(60)]));
        }
    }

    proptest::proptest! {
        /// Our reading by position agrees with the calendar library's wherever it says anything.
        #[test]
        fn the_fast_way_reads_the_same_time_as_the_slow_one(seconds in 0_i64..7_000_000_000, micro in 0_i64..1_000_000) {
            let time = Timestamp::from_microsecond(seconds * 1_000_000 + micro).unwrap();
            let text = time.strftime("%Y-%m-%dT%H:%M:%S.%6f+0000").to_string();
            proptest::prop_assert_eq!(fast_time(text.as_bytes()), Some(time.as_microsecond()));
        }

        #[test]
        fn any_bytes_are_survived(line in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = read(&line);
        }
    }
}
