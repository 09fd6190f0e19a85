//! Passwords: which are good enough, and the slow hash, on threads of its own so that a login never queues a page.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64Unpadded, Encoding};

use crate::secret;
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
}

/// Works in the thread's memory, which is taken once and kept: freed and taken anew, the allocator would hold it twice.
type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// Random bytes in place of a hash, whose password nobody knows: verifying against it makes an unknown user as slow as a known one.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG9ydGN1bGxpcyBkZWNveQ$qJ6w0J3m1x0b2yq1u8bq9p4Yt0fX2vS7c5hNn3kLr9E";

impl Hasher {
    pub fn start() -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..PARALLEL {
            let queue = queue.clone();
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || {
                let mut memory = Vec::new();
                while let Some(job) = next(&queue) {
                    job(&mut memory);
                }
            })?;
        }
        Ok(Hasher { jobs, waiting: Arc::new(AtomicUsize::new(0)) })
    }

    /// A PHC string to store.
    pub fn hash(&self, password: &str) -> Result<String, Trouble> {
        let password = password.to_owned();
        self.run(move |memory| hash(&password, memory))?.map_err(Trouble::Internal)
    }

    /// Whether it is the password. None for `stored` (no such user) takes as long and is never true.
    pub fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, Trouble> {
        let known = stored.is_some();
        let (password, stored) = (password.to_owned(), stored.unwrap_or(DECOY).to_owned());
        Ok(self.run(move |memory| verify(&password, &stored, memory))? && known)
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static) -> Result<T, Trouble> {
        let _turn = Turn::take(&self.waiting)?;
        let (done, result) = mpsc::sync_channel(1);
        let job = Box::new(move |memory: &mut Vec<Block>| {
            let _ = done.send(work(memory));
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

/// PHC string format, with the parameters that are used now.
fn hash(password: &str, memory: &mut Vec<Block>) -> Result<String, String> {
    let salt = secret::random_bytes::<16>();
    let hash = derive(password, &salt, COST, memory)?;
    let (memory, passes, lanes) = COST;
    let (salt, hash) = (Base64Unpadded::encode_string(&salt), Base64Unpadded::encode_string(&hash));
    Ok(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}"))
}

fn verify(password: &str, stored: &str, memory: &mut Vec<Block>) -> bool {
    let Some((cost, salt, hash)) = parse(stored) else { return false };
    derive(password, &salt, cost, memory).is_ok_and(|derived| secret::equal(&secret::hex(&derived), &secret::hex(&hash)))
}

type Cost = (u32, u32, u32);

/// Whether it is one of ours, or one that another program made with a cost that this box can bear.
pub fn is_hash(text: &str) -> bool {
    let bearable = |(memory, passes, lanes): Cost| {
        memory <= 64 * 1024 && passes <= 10 && lanes <= 4 && Params::new(memory, passes, lanes, Some(32)).is_ok()
    };
    parse(text).is_some_and(|(cost, salt, hash)| bearable(cost) && (8..=64).contains(&salt.len()) && hash.len() == 32)
}

/// The stored parameters count, so that stronger ones can come later. None for what is not ours.
fn parse(stored: &str) -> Option<(Cost, Vec<u8>, Vec<u8>)> {
    let ["", "argon2id", "v=19", parameters, salt, hash] = stored.split('$').collect::<Vec<_>>()[..] else { return None };
    let numbers: Vec<u32> =
        parameters.split(',').zip(["m=", "t=", "p="]).map(|(part, name)| part.strip_prefix(name)?.parse().ok()).collect::<Option<_>>()?;
    let [memory, passes, lanes] = numbers[..] else { return None };
    Some(((memory, passes, lanes), Base64Unpadded::decode_vec(salt).ok()?, Base64Unpadded::decode_vec(hash).ok()?))
}

fn derive(password: &str, salt: &[u8], (memory_cost, passes, lanes): Cost, memory: &mut Vec<Block>) -> Result<[u8; 32], String> {
    let params = Params::new(memory_cost, passes, lanes, Some(32)).map_err(|error| error.to_string())?;
    memory.resize(params.block_count(), Block::default());
    let mut out = [0; 32];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut out, memory).map_err(|error| error.to_string())?;
    Ok(out)
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
        assert!(parse(DECOY).is_some_and(|(cost, _, hash)| cost == COST && hash.len() == 32));
    }

    #[test]
    fn the_hash_is_the_one_that_everyone_else_computes() {
        use argon2::PasswordVerifier;
        use argon2::password_hash::phc::PasswordHash;
        let ours = hash("correct horse battery", &mut Vec::new()).unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse battery", &parsed).is_ok());
        assert!(Argon2::default().verify_password(b"correct horse batterz", &parsed).is_err());
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
