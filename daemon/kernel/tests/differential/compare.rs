//! What the simulator said against what was seen.

use policy::ruleset::Reject;
use policy::simulate::{Egress, Outcome, Packet, Seen, Verdict};

use crate::frames::{Arrival, Kind};

/// Everything that was seen of one packet.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// By the port that it left the box by.
    pub forwarded: Vec<(&'static str, Arrival)>,
    /// Behind the input chain.
    pub delivered: Option<Arrival>,
    /// Answers that refuse it.
    pub answers: Vec<Kind>,
}

pub fn compare(packet: &Packet, outcome: &Outcome, observed: &Observed) -> Result<(), String> {
    match (&outcome.verdict, &outcome.to) {
        (Verdict::Accepted, Some(Egress::Box)) => delivered(outcome, observed),
        (Verdict::Accepted, Some(Egress::Interface(port))) => forwarded(packet, outcome, observed, port.as_str()),
        (Verdict::Accepted, None) => Err("accepted, but for nobody".to_owned()),
        (Verdict::Dropped, _) => {
            stopped(observed)?;
            let refused = observed.answers.iter().any(|answer| matches!(answer, Kind::Prohibited | Kind::Reset));
            if refused { Err("should be dropped silently, but was rejected".to_owned()) } else { Ok(()) }
        }
        (Verdict::Rejected(how), _) => {
            stopped(observed)?;
            let answer = if *how == Reject::TcpReset { Kind::Reset } else { Kind::Prohibited };
            let answered = observed.answers.contains(&answer);
            if answered { Ok(()) } else { Err(format!("should be rejected with {answer:?}, but no such answer came")) }
        }
    }
}

fn stopped(observed: &Observed) -> Result<(), String> {
    match (&observed.delivered, observed.forwarded.first()) {
        (Some(_), _) => Err("should be stopped, but reached the box".to_owned()),
        (_, Some((port, _))) => Err(format!("should be stopped, but left by {port}")),
        _ => Ok(()),
    }
}

fn delivered(outcome: &Outcome, observed: &Observed) -> Result<(), String> {
    if let Some((port, _)) = observed.forwarded.first() {
        return Err(format!("should reach the box, but left by {port}"));
    }
    let Some(arrival) = &observed.delivered else { return Err("should reach the box, but did not".to_owned()) };
    ends(outcome, arrival)
}

fn forwarded(packet: &Packet, outcome: &Outcome, observed: &Observed, port: &str) -> Result<(), String> {
    if observed.delivered.is_some() {
        return Err(format!("should leave by {port}, but reached the box"));
    }
    let [(by, arrival)] = &observed.forwarded[..] else {
        return Err(format!("should leave by {port}, but was seen {} times", observed.forwarded.len()));
    };
    if *by != port {
        return Err(format!("should leave by {port}, but left by {by}"));
    }
    let source = match outcome.source {
        Seen::Kept => packet.source,
        Seen::Port(address) => address.unwrap_or(packet.source),
        Seen::To(address, _) => address,
    };
    if arrival.source != Some(source) {
        return Err(format!("source should be {source}, but is {:?}", arrival.source));
    }
    ends(outcome, arrival)
}

fn ends(outcome: &Outcome, arrival: &Arrival) -> Result<(), String> {
    let (address, port) = outcome.destination;
    if arrival.destination.is_some_and(|destination| destination != address) {
        return Err(format!("destination should be {address}, but is {:?}", arrival.destination));
    }
    if arrival.port.is_some_and(|arrived| arrived != port) {
        return Err(format!("destination port should be {port}, but is {:?}", arrival.port));
    }
    Ok(())
}
