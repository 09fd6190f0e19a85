//! The ruleset as `nft -f` reads it: what people review and what golden files hold.

use std::fmt;

use super::Ruleset;

impl fmt::Display for Ruleset {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
