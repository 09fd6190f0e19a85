//! `portcullis status`: the applier's state in a few lines.

use policy::messages::{ApplierRequest, ApplierResponse, DriftFinding, Generation, Status};

use super::{say, say_json};
use crate::applier::Applier;
use crate::paint::{self, Paint};
use crate::trouble::Trouble;

pub fn run(compare: bool, json: bool, applier: &Applier) -> Result<(), Trouble> {
    if compare {
        match applier.ask(&ApplierRequest::CheckDrift)? {
            ApplierResponse::Drift { .. } => {}
            other => return Err(Applier::unexpected(other)),
        }
    }
    match applier.ask(&ApplierRequest::Status)? {
        ApplierResponse::Status(status) if json => say_json(&status),
        ApplierResponse::Status(status) => say(lines(&status, paint::for_stdout())),
        other => Err(Applier::unexpected(other)),
    }
}

fn lines(status: &Status, paint: Paint) -> String {
    let mut lines = Vec::new();
    lines.push(match &status.running {
        Some(running) => format!("running    {}", generation(running, status.now)),
        None => format!("running    {}", paint.bad("nothing: locked down, no policy was ever confirmed")),
    });
    if let Some(trial) = &status.trial {
        let left = trial.deadline.saturating_sub(status.now).div_ceil(1000);
        let back = trial.back_to.map_or("lockdown".to_owned(), |generation| format!("generation {generation}"));
        let text = format!("generation {} by {}, goes back to {back} in {left} s unless confirmed", trial.generation, trial.by);
        lines.push(format!("on trial   {}", paint.strong(&text)));
    }
    lines.push(format!("confirmed  {}", status.last_confirmed.map_or("none".to_owned(), |number| format!("generation {number}"))));
    if let Some(event) = &status.last_event {
        lines.push(format!("last event {} ({} ago)", event.text, ago(status.now, event.at)));
    }
    lines.extend(status.drift.iter().map(|finding| format!("drift      {}", paint.bad(&drift(finding, status.now)))));
    lines.extend(status.kept.iter().map(|kept| format!("kept       {}", generation(kept, status.now))));
    lines.push(format!(
        "kernel     {}",
        if status.features.is_empty() { "no extra features".to_owned() } else { status.features.join(", ") }
    ));
    lines.join("\n")
}

fn generation(generation: &Generation, now: u64) -> String {
    let digest = generation.digest.0.get(..12).unwrap_or(&generation.digest.0);
    let confirmed = if generation.confirmed { "" } else { ", not confirmed" };
    format!("generation {} by {}, {} ago, digest {digest}{confirmed}", generation.number, generation.by, ago(now, generation.installed_at))
}

fn drift(finding: &DriftFinding, now: u64) -> String {
    let who = finding.who.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
    let repaired = if finding.repaired { "repaired" } else { "not repaired" };
    format!("{}: expected {}, found {}{who}, {} ago, {repaired}", finding.what, finding.expected, finding.found, ago(now, finding.at))
}

/// The largest unit that fits: people ask "just now or yesterday?".
fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn time_past_is_told_in_the_unit_that_people_use() {
        assert_eq!(ago(5_000, 5_000), "0 s");
        assert_eq!(ago(119_999, 0), "119 s");
        assert_eq!(ago(120_000, 0), "2 min");
        assert_eq!(ago(7_200_000, 0), "2 h");
        assert_eq!(ago(3 * 86_400_000, 0), "3 days");
        assert_eq!(ago(0, 9), "0 s", "a clock that was set back");
    }
}
