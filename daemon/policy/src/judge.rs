//! The one gate before a policy may be applied, the same for every process.

use crate::check::{Checked, check};
use crate::compile::compile;
use crate::plan::{Digest, Plan};
use crate::problem::Problems;
use crate::prove::prove;
use crate::read::{locate, read};
use crate::source::Sources;

/// A policy that may be applied: it reads, it fits together, and what it asserts is true.
#[derive(Debug, Clone)]
pub struct Judged {
    pub checked: Checked,
    pub plan: Plan,
    pub digest: Digest,
}

/// Reads and checks.
pub fn load(sources: &Sources) -> Result<Checked, Problems> {
    let (config, problems) = read(sources);
    let said = problems.0.len();
    check(config, problems).map_err(|mut problems| {
        locate(sources, &mut problems.0[said..]);
        problems.sort();
        problems
    })
}

/// Reads, checks, compiles and proves every assertion; a false one is a problem with a counter-example.
pub fn judge(sources: &Sources) -> Result<Judged, Problems> {
    let checked = load(sources)?;
    let plan = compile(&checked);
    let failures = prove(&checked, &plan);
    if !failures.is_empty() {
        let mut problems = Problems::default();
        for failure in failures {
            problems.at(&failure.origin, failure.about.clone(), failure.to_string());
        }
        return Err(problems);
    }
    let digest = plan.digest();
    Ok(Judged { checked, plan, digest })
}
