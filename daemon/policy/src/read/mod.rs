//! From YAML text to a typed `Config`, reporting every problem on the way.

use crate::model::Config;
use crate::problem::Problems;
use crate::source::Sources;

/// Reads every document of every file. What could be read is in the `Config`, what could not is in the `Problems`.
pub fn read(_sources: &Sources) -> (Config, Problems) {
    (Config::default(), Problems::default())
}
