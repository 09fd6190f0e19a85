//! What an administrator is told of the machine.

use policy::messages::{Generation, Status};

use super::{Machine, Stands, Work};
use crate::clock::Now;

impl Machine {
    pub fn status(&self, now: Now, kept: Vec<Generation>, features: Vec<String>) -> Status {
        let running = match &self.stands {
            Stands::Generation(standing) => Some(Generation {
                number: standing.number,
                digest: standing.digest.clone(),
                by: standing.by.clone(),
                installed_at: standing.installed.wall,
                confirmed: self.confirmed == Some(standing.number),
            }),
            Stands::Lockdown | Stands::SafeMode | Stands::Unknown => None,
        };
        Status {
            now: now.wall,
            running,
            trial: match &self.work {
                Work::Trial(trial) => Some(trial.shown(now)),
                _ => None,
            },
            last_confirmed: self.confirmed,
            last_event: self.last_event.clone(),
            drift: self.watch.findings.clone(),
            kept,
            features,
            safe_mode: self.safe.clone(),
        }
    }

    /// One line for the service manager's status.
    pub fn summary(&self) -> String {
        let stands = match &self.stands {
            Stands::SafeMode => "safe mode, nothing is forwarded".to_owned(),
            Stands::Lockdown => "locked down, nothing passes".to_owned(),
            Stands::Unknown => "NOT EVEN LOCKDOWN COULD BE INSTALLED".to_owned(),
            Stands::Generation(standing) => format!("generation {}", standing.number),
        };
        match &self.work {
            Work::Trial(trial) => format!("{stands} on trial until {}", crate::clock::shown(trial.deadline_wall)),
            Work::Proving(proving) => format!("{stands}: {} new mappings are being probed", proving.mappings),
            Work::GoingBack(_) | Work::Unrecording(_) => format!("{stands}, going back"),
            _ => stands,
        }
    }

    /// What stands, in words.
    pub(super) fn place(&self) -> String {
        match &self.stands {
            Stands::Generation(standing) => format!("generation {}", standing.number),
            Stands::SafeMode => "safe mode".to_owned(),
            Stands::Lockdown | Stands::Unknown => "lockdown".to_owned(),
        }
    }
}
