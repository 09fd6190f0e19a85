//! Static routes of the main table.

use std::collections::BTreeSet;

use policy::plan::Route;

use crate::{Difference, Error};

/// Adds what is missing and removes what we installed earlier and is no longer wanted. Routes of others (kernel, DHCP)
/// are never touched: ours carry their own protocol number.
pub fn reconcile(_wanted: &BTreeSet<Route>) -> Result<(), Error> {
    Ok(())
}

pub fn differences(_wanted: &BTreeSet<Route>) -> Result<Vec<Difference>, Error> {
    Ok(vec![])
}
