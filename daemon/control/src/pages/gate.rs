//! The state of the gate in words: for the badge on every page, the banner of a trial, and the dashboard.

use policy::messages::{Status, Trial};
use serde::Serialize;

use super::format::{self, Clock};
use super::ui::{Badge, Link, Tone};

/// What the dashboard says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Headline {
    pub tone: Tone,
    pub headline: String,
    pub text: String,
    pub links: Vec<Link>,
}

/// The banner while a change waits for its confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Banner {
    pub generation: u64,
    /// Seconds.
    pub left: u64,
    pub left_text: String,
    /// Of the time that the trial began with, in percent: the bar burns down from there, also without a script.
    pub width: String,
    pub sentence: String,
    /// The same page again.
    pub refresh: String,
    /// Whether this user may decide.
    pub may: bool,
}

pub fn badge(status: Option<&Status>) -> Badge {
    match status {
        None => Badge::new(Tone::Bad, "applier not reachable"),
        Some(Status { trial: Some(trial), .. }) => Badge::new(Tone::Warn, format!("generation {} on trial", trial.generation)),
        Some(Status { safe_mode: Some(_), .. }) => Badge::new(Tone::Bad, "safe mode"),
        Some(Status { running: None, .. }) => Badge::new(Tone::Bad, "locked down"),
        Some(Status { running: Some(running), drift, .. }) if drift.iter().any(|finding| !finding.repaired) => {
            Badge::new(Tone::Warn, format!("generation {} drifted", running.number))
        }
        Some(Status { running: Some(running), .. }) => Badge::new(Tone::Ok, format!("generation {}", running.number)),
    }
}

/// Changes whenever what pages say about the gate changes, and never otherwise; the script compares it.
pub fn fingerprint(status: Option<&Status>) -> String {
    match status {
        None => "unreachable".to_owned(),
        Some(status) => {
            let running = status.running.as_ref().map(|running| running.number);
            let trial = status.trial.as_ref().map(|trial| trial.generation);
            let open = status.drift.iter().filter(|finding| !finding.repaired).count();
            format!("{running:?}/{trial:?}/{open}/{}", status.safe_mode.is_some())
        }
    }
}

pub fn banner(status: Option<&Status>, clock: &Clock, path: &str, may: bool) -> Option<Banner> {
    let trial = status?.trial.as_ref()?;
    let left = trial.deadline.saturating_sub(clock.now).div_ceil(1000);
    let whole = trial.deadline.saturating_sub(trial.installed_at);
    let width = format!("{:.2}", if whole == 0 { 0.0 } else { (100.0 * (left * 1000) as f64 / whole as f64).min(100.0) });
    let sentence = format!(
        "Applied by {}. Unless {} confirms it, the gate goes back to {} at {}, by itself.",
        trial.by,
        trial.by,
        back_to(trial),
        clock.say(trial.deadline),
    );
    Some(Banner { generation: trial.generation, left, left_text: format::left(left), width, sentence, refresh: path.to_owned(), may })
}

pub fn back_to(trial: &Trial) -> String {
    trial.back_to.map_or_else(|| "lockdown".to_owned(), |generation| format!("generation {generation}"))
}

pub fn headline(status: Option<&Status>, clock: &Clock) -> Headline {
    let Some(status) = status else {
        return Headline {
            tone: Tone::Bad,
            headline: "The applier does not answer".to_owned(),
            text: "The kernel keeps enforcing what was installed last. Nothing can be changed, and no figure is known, until the applier is back.".to_owned(),
            links: vec![Link::new("/system", "System")],
        };
    };
    let last_event =
        status.last_event.as_ref().map(|event| format!("Latest, at {}: {}.", clock.say(event.at), event.text.trim_end_matches('.')));
    if let Some(trial) = &status.trial {
        return Headline {
            tone: Tone::Warn,
            headline: format!("Generation {} is on trial", trial.generation),
            text: format!("Without a confirmation the gate goes back to {} at {}.", back_to(trial), clock.say(trial.deadline)),
            links: vec![Link::new("/trial", "About the trial")],
        };
    }
    let Some(running) = &status.running else {
        return Headline {
            tone: Tone::Bad,
            headline: "Locked down".to_owned(),
            text: last_event.unwrap_or_else(|| "No policy has been confirmed yet, so nothing is forwarded.".to_owned()),
            links: vec![Link::new("/policies", "Write a policy")],
        };
    };
    let open = status.drift.iter().filter(|finding| !finding.repaired).count();
    let installed = format!("Installed at {} by {}.", clock.say(running.installed_at), running.by);
    if open > 0 {
        return Headline {
            tone: Tone::Warn,
            headline: format!("Generation {} runs, but the kernel differs from it", running.number),
            text: format!("{}. {installed}", format::plural(open, "difference is not repaired", "differences are not repaired")),
            links: vec![Link::new("/drift", "See the drift")],
        };
    }
    Headline {
        tone: Tone::Ok,
        headline: format!("Generation {} holds the gate", running.number),
        text: match last_event {
            Some(event) => format!("{installed} {event}"),
            None => installed,
        },
        links: vec![Link::new("/firewall", "Firewall"), Link::new("/policies", "Change the policy")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;

    #[test]
    fn what_is_not_known_says_so() {
        assert_eq!(badge(None).word, "applier not reachable");
        assert_eq!(headline(None, &sample::clock()).tone, Tone::Bad);
        let locked = Status { running: None, trial: None, last_event: None, ..sample::status() };
        assert_eq!(headline(Some(&locked), &sample::clock()).headline, "Locked down");
    }

    #[test]
    fn a_trial_counts_down_and_says_where_it_goes() {
        let status = sample::on_trial();
        let banner = banner(Some(&status), &sample::clock(), "/audit", true).expect("a trial");
        assert_eq!((banner.left, banner.width.as_str()), (43, "71.67"));
        assert!(banner.sentence.contains("goes back to generation 12"), "{}", banner.sentence);
        assert!(super::banner(Some(&sample::status()), &sample::clock(), "/", true).is_none());
    }

    #[test]
    fn the_fingerprint_changes_with_the_state_only() {
        assert_eq!(fingerprint(Some(&sample::status())), fingerprint(Some(&Status { now: 1, ..sample::status() })));
        assert_ne!(fingerprint(Some(&sample::status())), fingerprint(Some(&sample::on_trial())));
        assert_ne!(fingerprint(Some(&sample::status())), fingerprint(None));
    }
}
