//! A token bucket for each client address: so many requests a minute, with as many at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;

/// Requests are tokens; a bucket fills evenly and holds one minute's worth.
#[derive(Debug, Default)]
pub struct Buckets {
    buckets: Mutex<BTreeMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In parts of a token of which [`TOKEN`] make one: at N tokens a minute N parts flow in each millisecond, without a fraction.
    parts: u64,
    /// Milliseconds since the epoch.
    filled_at: u64,
}

const TOKEN: u64 = 60_000;

/// More addresses than this are not remembered singly: the fullest are forgotten, which only ever helps their owners.
const MAX_BUCKETS: usize = 10_000;

impl Buckets {
    /// Takes one token, or says after how many seconds there will be one.
    pub fn take(&self, address: IpAddr, per_minute: u32, now: u64) -> Result<(), u64> {
        let rate = u64::from(per_minute.max(1));
        let full = rate * TOKEN;
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| bucket.after(now, rate) < full);
            if buckets.len() >= MAX_BUCKETS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(site_of(address)).or_insert(Bucket { parts: full, filled_at: now });
        bucket.parts = bucket.after(now, rate);
        bucket.filled_at = now;
        if bucket.parts < TOKEN {
            let milliseconds = (TOKEN - bucket.parts).div_ceil(rate);
            return Err(milliseconds.div_ceil(1000));
        }
        bucket.parts -= TOKEN;
        Ok(())
    }
}

impl Bucket {
    fn after(&self, now: u64, rate: u64) -> u64 {
        let flowed = now.saturating_sub(self.filled_at).min(60_000) * rate;
        (self.parts + flowed).min(rate * TOKEN)
    }
}

/// One subscriber owns a whole /64 (RFC 6177), so that is what is counted.
fn site_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_hundred_at_once_then_one_each_600_ms() {
        let buckets = Buckets::default();
        for _ in 0..100 {
            buckets.take(A, 100, 0).unwrap();
        }
        assert_eq!(buckets.take(A, 100, 0), Err(1));
        assert_eq!(buckets.take(A, 100, 599), Err(1));
        assert_eq!(buckets.take(A, 100, 600), Ok(()));
        assert_eq!(buckets.take(A, 100, 601), Err(1));
        for _ in 0..100 {
            buckets.take(A, 100, 120_000).unwrap();
        }
        assert!(buckets.take(A, 100, 120_000).is_err(), "an idle hour saves up no more than a minute's worth");
    }

    #[test]
    fn retry_after_tells_the_truth_for_slow_rates() {
        let buckets = Buckets::default();
        buckets.take(A, 1, 0).unwrap();
        assert_eq!(buckets.take(A, 1, 0), Err(60));
        assert_eq!(buckets.take(A, 1, 59_000), Err(1));
        assert_eq!(buckets.take(A, 1, 60_000), Ok(()));
    }

    #[test]
    fn others_are_not_slowed_and_a_v6_neighbourhood_is_one_client() {
        let buckets = Buckets::default();
        buckets.take(A, 1, 0).unwrap();
        buckets.take("192.0.2.2".parse().unwrap(), 1, 0).unwrap();
        buckets.take("2001:db8::1".parse().unwrap(), 1, 0).unwrap();
        assert!(buckets.take("2001:db8::ffff:2".parse().unwrap(), 1, 0).is_err());
        buckets.take("2001:db8:0:1::1".parse().unwrap(), 1, 0).unwrap();
    }

    #[test]
    fn a_clock_that_jumps_back_neither_panics_nor_fills() {
        let buckets = Buckets::default();
        buckets.take(A, 1, 100_000).unwrap();
        assert!(buckets.take(A, 1, 0).is_err());
    }

    #[test]
    fn memory_stays_bounded_under_a_million_addresses() {
        let buckets = Buckets::default();
        for n in 0..100_000u32 {
            let _ = buckets.take(IpAddr::V4(n.into()), 100, 0);
        }
        assert!(buckets.buckets.lock().unwrap().len() <= MAX_BUCKETS);
    }
}
