//! From a checked policy to the plan: pure, total and deterministic.

use crate::check::Checked;
use crate::plan::Plan;

pub fn compile(_checked: &Checked) -> Plan {
    Plan::default()
}
