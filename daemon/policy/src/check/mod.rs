//! Whether the resources of a policy fit together.

use crate::model::Config;
use crate::problem::Problems;

/// A policy in which every reference resolves and nothing contradicts. Only `check` makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    config: Config,
}

impl Checked {
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Reports every problem at once; `read` problems are passed in so that all come in one list.
pub fn check(config: Config, problems: Problems) -> Result<Checked, Problems> {
    if problems.is_empty() { Ok(Checked { config }) } else { Err(problems) }
}
