//! Names of boot entries. systemd-boot counts in them: `portcullis_0.2.0+2-1.efi` has two boots left and was tried once.
//!
//! What has no boots left comes last; among equals the newest version comes first. So one of two slots is chosen by names alone, and no
//! variable of the firmware is needed.

use crate::version::Version;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub version: Version,
    pub counted: Counted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Found to be good: no counter in the name.
    Good,
    /// Boots left, boots tried.
    Trying(u32, u32),
    /// Good, but the other slot is to be booted first: `+0`.
    Aside,
    /// No boots left after so many: `+0-3`.
    Bad(u32),
}

/// Boots that a new version has to be found good.
pub const TRIES: u32 = 3;

impl Entry {
    pub fn parse(name: &str) -> Option<Entry> {
        let stem = name.strip_prefix("portcullis_")?.strip_suffix(".efi")?;
        let (version, counted) = match stem.split_once('+') {
            None => (stem, Counted::Good),
            Some((version, counters)) => {
                let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
                let counted = match (number(left)?, number(done)?) {
                    (0, 0) => Counted::Aside,
                    (0, done) => Counted::Bad(done),
                    (left, done) => Counted::Trying(left, done),
                };
                (version, counted)
            }
        };
        Some(Entry { version: version.parse().ok()?, counted })
    }

    pub fn name(&self) -> String {
        let version = &self.version;
        match self.counted {
            Counted::Good => format!("portcullis_{version}.efi"),
            Counted::Aside => format!("portcullis_{version}+0.efi"),
            Counted::Trying(left, 0) => format!("portcullis_{version}+{left}.efi"),
            Counted::Trying(left, done) => format!("portcullis_{version}+{left}-{done}.efi"),
            Counted::Bad(done) => format!("portcullis_{version}+0-{done}.efi"),
        }
    }

    /// It has to be found good in this boot.
    pub fn is_counted(&self) -> bool {
        matches!(self.counted, Counted::Trying(..) | Counted::Bad(_))
    }

    /// The loader boots it before it gives up on all.
    #[cfg(test)]
    pub fn is_booted_by_itself(&self) -> bool {
        matches!(self.counted, Counted::Good | Counted::Trying(..))
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Which one the loader boots next, as systemd-boot orders them.
#[cfg(test)]
pub fn next(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().max_by_key(|entry| (entry.is_booted_by_itself(), entry.version.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_the_loader_counts_and_is_written_the_same() {
        for (name, counted) in [
            ("portcullis_0.2.0.efi", Counted::Good),
            ("portcullis_0.2.0+3.efi", Counted::Trying(3, 0)),
            ("portcullis_0.2.0+1-2.efi", Counted::Trying(1, 2)),
            ("portcullis_0.2.0+0-3.efi", Counted::Bad(3)),
            ("portcullis_0.2.0+0.efi", Counted::Aside),
        ] {
            let entry = Entry::parse(name).unwrap();
            assert_eq!(entry.counted, counted);
            assert_eq!(entry.name(), name);
        }
        for other in [
            "linux.efi",
            "portcullis_.efi",
            "portcullis_0.1.0+x.efi",
            "portcullis_0.1.0+-1.efi",
            "portcullis_0.1.0.efi.new",
            "portcullis.new",
        ] {
            assert_eq!(Entry::parse(other), None, "{other}");
        }
    }
}
