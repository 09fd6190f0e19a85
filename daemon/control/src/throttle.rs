//! Guessing passwords gets slower with every failure, for the account at this address, for the address, and for the account.
//!
//! A failure is written down before the password is looked at and taken back when it was right, so that a hundred
//! guesses at the same moment count as a hundred.

use rusqlite::{OptionalExtension, params};

use crate::http::Client;
use crate::site::Site;
use crate::trouble::Trouble;

/// After so many free failures each further one doubles the wait, in seconds, up to the limit.
struct Pace {
    free: u32,
    limit: u64,
}

const ACCOUNT_AT_ADDRESS: Pace = Pace { free: 3, limit: 900 };
const ADDRESS: Pace = Pace { free: 10, limit: 900 };
/// Short, or anyone could lock anyone out.
const ACCOUNT: Pace = Pace { free: 20, limit: 30 };

/// Milliseconds after which failures are forgotten.
const MEMORY: u64 = 24 * 60 * 60 * 1000;

/// Counts an attempt, or says how long to wait.
pub fn attempt(site: &Site, user: &str, client: &Client) -> Result<(), Trouble> {
    let now = site.now();
    site.db.change(|tx| {
        tx.execute("DELETE FROM login_failures WHERE last_at < ?1", [now.saturating_sub(MEMORY)])?;
        for (who, pace) in keys(user, client) {
            let mut query = tx.prepare_cached("SELECT failures, last_at FROM login_failures WHERE who = ?1")?;
            let known: Option<(u32, u64)> = query.query_row([&who], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let left = known.map_or(0, |(failures, last_at)| (last_at + wait(&pace, failures)).saturating_sub(now));
            if left > 0 {
                let retry_after = left.div_ceil(1000);
                return Err(Trouble::TooMany { text: format!("too many failed attempts; wait {retry_after} s"), retry_after });
            }
        }
        for (who, _) in keys(user, client) {
            let count = "INSERT INTO login_failures (who, failures, last_at) VALUES (?1, 1, ?2)
                         ON CONFLICT (who) DO UPDATE SET failures = failures + 1, last_at = ?2";
            tx.execute(count, params![who, now])?;
        }
        Ok(())
    })
}

/// The attempt was right: the account is at peace, the address loses only the one that was counted for it.
pub fn succeeded(site: &Site, user: &str, client: &Client) -> Result<(), Trouble> {
    site.db.change(|tx| {
        let [(here, _), (address, _), (account, _)] = keys(user, client);
        tx.execute("DELETE FROM login_failures WHERE who IN (?1, ?2)", [here, account])?;
        tx.execute("UPDATE login_failures SET failures = max(failures - 1, 0) WHERE who = ?1", [address])?;
        Ok(())
    })
}

/// Milliseconds to wait after the last of so many failures.
fn wait(pace: &Pace, failures: u32) -> u64 {
    match failures.checked_sub(pace.free) {
        None | Some(0) => 0,
        Some(beyond) => 1u64.checked_shl(beyond.min(32)).unwrap_or(u64::MAX).min(pace.limit) * 1000,
    }
}

fn keys(user: &str, client: &Client) -> [(String, Pace); 3] {
    // Names are bounded before they are stored.
    let user: String = user.chars().take(64).collect();
    let address = client.address.map_or_else(|| "local".to_owned(), |address| address.to_string());
    [(format!("{user}@{address}"), ACCOUNT_AT_ADDRESS), (format!("*@{address}"), ADDRESS), (format!("{user}@*"), ACCOUNT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_and_ends_at_its_limit() {
        let waits: Vec<u64> = (0..16).map(|failures| wait(&ACCOUNT_AT_ADDRESS, failures) / 1000).collect();
        assert_eq!(waits, [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
        assert_eq!(wait(&ACCOUNT, u32::MAX), 30_000);
    }
}
