//! A changed file in the policy folder becomes a revision that waits, or goes on trial.

use crate::site::Site;

pub fn watch(_site: &Site) {}
