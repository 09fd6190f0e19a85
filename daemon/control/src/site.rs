//! What all requests share.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::actor::Actor;
use crate::applier::Applier;
use crate::blocked;
use crate::carried::Carrying;
use crate::db::{self, Db, DbError};
use crate::forwarder::Forwarder;
use crate::http::{Access, Buckets, Request};
use crate::judgement::Judgements;
use crate::observer::Observer;
use crate::password::Hasher;
use crate::render::Templates;
use crate::session;
use crate::ticks::Ticks;
use crate::trouble::Trouble;
use crate::updater::Updater;

pub struct Site {
    pub settings: Settings,
    pub db: Db,
    pub applier: Applier,
    pub forwarder: Forwarder,
    pub observer: Observer,
    pub updater: Updater,
    pub carried: Carrying,
    pub blocked: blocked::Watch,
    pub templates: Templates,
    pub ticks: Ticks,
    pub hasher: Hasher,
    pub buckets: Buckets,
    pub judgements: Judgements,
    /// Held while a file comes in.
    pub uploading: Mutex<()>,
    pub clock: Clock,
}

/// Where things lie.
#[derive(Debug, Clone)]
pub struct Settings {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Watched for changes; None watches nothing.
    pub policy_dir: Option<PathBuf>,
    /// Where a seed file is, if there is one.
    pub seed: PathBuf,
}

/// Milliseconds since the epoch. A field, so that tests can tell stories that take hours.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

pub fn wall_clock() -> Clock {
    Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// Until a policy says otherwise (`System.requestsPerMinute`).
const REQUESTS_PER_MINUTE: u32 = 100;

/// Why control cannot start at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("a page template is broken")]
    Templates(#[from] minijinja::Error),
    #[error("the hashing threads cannot be started")]
    Hasher(#[source] std::io::Error),
}

impl Site {
    /// A database that cannot be used is told beside: the pages still have to say so.
    pub fn open(settings: Settings, applier_socket: PathBuf) -> Result<(Self, Result<(), DbError>), OpenError> {
        let (path, copied) = db::own_copy(&settings.state_dir);
        let (db, opened) = Db::open_or_try_later(&path, copied);
        let site = Site {
            db,
            applier: Applier::new(applier_socket),
            forwarder: Forwarder::new(settings.run_dir.join("forwarder.sock")),
            observer: Observer::new(settings.run_dir.join("observer.sock")),
            updater: Updater::new(settings.run_dir.join("updater.sock")),
            carried: Carrying::default(),
            blocked: blocked::Watch::default(),
            templates: Templates::new()?,
            ticks: Ticks::default(),
            hasher: Hasher::start().map_err(OpenError::Hasher)?,
            buckets: Buckets::default(),
            judgements: Judgements::default(),
            uploading: Mutex::default(),
            clock: wall_clock(),
            settings,
        };
        Ok((site, opened))
    }

    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Who sent this, if anyone who may be known by cookie, key or token.
    pub fn identify(&self, request: &Request, access: Access) -> Result<Option<Actor>, Trouble> {
        match session::identify(self, request) {
            // A stale cookie must not lock anyone out of the login page.
            Err(Trouble::SignIn(_) | Trouble::Storage(_)) if access == Access::Anyone => Ok(None),
            other => other,
        }
    }

    /// Every request costs one, except what a page fetches by itself.
    pub fn take_token(&self, request: &Request) -> Result<(), Trouble> {
        if request.path.starts_with("/assets/") || matches!(request.path.as_str(), "/healthz" | "/readyz") {
            return Ok(());
        }
        let Some(address) = request.client.address else { return Ok(()) };
        let per_minute = self.requests_per_minute();
        self.buckets.take(address, per_minute, self.now()).map_err(|retry_after| Trouble::TooMany {
            text: format!("more than {per_minute} requests a minute came from {address}; wait {retry_after} s"),
            retry_after,
        })
    }

    fn requests_per_minute(&self) -> u32 {
        let running = self.applier.running();
        let system = running.as_ref().and_then(|running| running.judged.as_ref()?.checked.config().system.as_ref());
        system.map_or(REQUESTS_PER_MINUTE, |(_, system)| system.spec.requests_per_minute)
    }
}
