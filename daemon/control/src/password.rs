//! Passwords: which are good enough, and the slow hash, on threads of its own so that a login never queues a page.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::trouble::Trouble;

/// Memory in KiB, passes, lanes: OWASP's first choice for Argon2id, about 22 ms here.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Each holds 19 MiB while it works, which is what the 40 MB budget of this process has room for.
const PARALLEL: usize = 1;
/// Logins that may wait. The next one is asked to come again, so that workers stay free for pages.
pub const WAITING: usize = 6;

/// In characters. Below, guessing wins; above, hashing would be a way to keep us busy.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=256;

pub struct Hasher {
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    /// A hash of nothing anyone knows: verifying against it makes an unknown user as slow as a known one.
    decoy: String,
}

type Job = Box<dyn FnOnce() + Send>;

impl Hasher {
    pub fn start() -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..PARALLEL {
            let queue = queue.clone();
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || {
                while let Some(job) = next(&queue) {
                    job()
                }
            })?;
        }
        let decoy = hash(&crate::secret::random()).map_err(std::io::Error::other)?;
        Ok(Hasher { jobs, waiting: Arc::new(AtomicUsize::new(0)), decoy })
    }

    /// A PHC string to store.
    pub fn hash(&self, password: &str) -> Result<String, Trouble> {
        let password = password.to_owned();
        self.run(move || hash(&password))?.map_err(Trouble::Internal)
    }

    /// Whether it is the password. None for `stored` (no such user) takes as long and is never true.
    pub fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, Trouble> {
        let known = stored.is_some();
        let (password, stored) = (password.to_owned(), stored.unwrap_or(&self.decoy).to_owned());
        Ok(self.run(move || verify(&password, &stored))? && known)
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
        let _turn = Turn::take(&self.waiting)?;
        let (done, result) = mpsc::sync_channel(1);
        let job = Box::new(move || {
            let _ = done.send(work());
        });
        self.jobs.send(job).map_err(|_| Trouble::Internal("the hashing threads are gone".to_owned()))?;
        result.recv().map_err(|_| Trouble::Internal("a password could not be hashed".to_owned()))
    }
}

struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Trouble> {
        if waiting.fetch_add(1, Ordering::SeqCst) >= WAITING {
            waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(Trouble::TooMany { text: "too many people are signing in at this moment; try again".to_owned(), retry_after: 1 });
        }
        Ok(Turn(waiting))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn argon2() -> Result<Argon2<'static>, String> {
    let (memory, passes, lanes) = COST;
    Params::new(memory, passes, lanes, None)
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .map_err(|e| e.to_string())
}

fn hash(password: &str) -> Result<String, String> {
    argon2()?.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

fn verify(password: &str, stored: &str) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else { return false };
    argon2().is_ok_and(|argon2| argon2.verify_password(password.as_bytes(), &stored).is_ok())
}

/// What a new password must be. Length is what counts; beyond that only what guessers try first is refused (NIST SP 800-63B, 5.1.1.2).
pub fn check(password: &str, user: &str) -> Result<(), Trouble> {
    let refuse = |message: &str| Err(Trouble::field("password", message));
    let length = password.chars().count();
    if !LENGTH.contains(&length) {
        return refuse("must have 12 to 256 characters; a few words in a row are easy to keep in mind");
    }
    if password.chars().any(char::is_control) {
        return refuse("must not hold control characters");
    }
    let lower = password.to_lowercase();
    let distinct: std::collections::BTreeSet<char> = lower.chars().collect();
    if distinct.len() < 6 {
        return refuse("repeats too few characters; a few different words are better");
    }
    if (user.chars().count() > 3 && lower.contains(&user.to_lowercase())) || lower.contains("portcullis") {
        return refuse("must not contain the user's name or that of the product");
    }
    if is_a_run(&lower) || COMMON.iter().any(|common| lower.contains(common) && length < common.len() + 6) {
        return refuse("is among the first that would be guessed; choose other words");
    }
    Ok(())
}

/// `abcdefghijkl`, `123456789012`
fn is_a_run(text: &str) -> bool {
    let codes: Vec<i64> = text.chars().map(|c| i64::from(u32::from(c))).collect();
    let steps = codes.windows(2).filter(|pair| (pair[1] - pair[0]).abs() <= 1).count();
    steps * 10 >= codes.len() * 8
}

const COMMON: &[&str] = &[
    "password",
    "passwort",
    "qwertyuiop",
    "qwertzuiop",
    "letmein",
    "welcome",
    "administrator",
    "changeme",
    "iloveyou",
    "1q2w3e4r",
    "1234567890",
    "asdfghjkl",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_guessed_first_is_refused() {
        for bad in [
            "short",
            "aaaaaaaaaaaaaaaa",
            "abcdefghijklmn",
            "123456789012",
            "Password1234",
            "passwort!2024",
            "hildegard-rocks!",
            "portcullis-is-nice",
            "tab\there-and-there",
            &"x1".repeat(200),
        ] {
            assert!(check(bad, "hildegard").is_err(), "{bad:?} passed");
        }
        for good in ["correct horse battery", "Tr0ub4dor&3-and-more", "früh übt sich wer", "vK8!mz2Qp0-rL"] {
            check(good, "hildegard").unwrap();
        }
    }

    #[test]
    fn a_password_verifies_and_nobody_has_none() {
        let hasher = Hasher::start().unwrap();
        let stored = hasher.hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("correct horse battery", Some(&stored)).unwrap());
        assert!(!hasher.verify("correct horse batterz", Some(&stored)).unwrap());
        assert!(!hasher.verify("correct horse battery", None).unwrap());
        assert!(!hasher.verify("x", Some("not a hash")).unwrap());
    }

    #[test]
    fn a_crowd_at_the_door_is_asked_to_wait_and_memory_stays_bounded() {
        let hasher = Arc::new(Hasher::start().unwrap());
        let crowd: Vec<_> = (0..40)
            .map(|_| {
                let hasher = hasher.clone();
                thread::spawn(move || hasher.verify("correct horse battery", None))
            })
            .collect();
        let answers: Vec<_> = crowd.into_iter().map(|one| one.join().unwrap()).collect();
        let sent_away = answers.iter().filter(|answer| matches!(answer, Err(Trouble::TooMany { .. }))).count();
        assert!(sent_away > 0 && sent_away < 40, "{sent_away} of 40 were sent away");
        assert!(!hasher.verify("afterwards", None).unwrap());
    }
}
