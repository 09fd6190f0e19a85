//! `portcullis check`: the same gate that control and the applier put before every change.

use policy::judge;
use serde_json::json;

use super::{say, say_json};
use crate::applier::Applier;
use crate::trouble::Trouble;
use crate::{paint, sources};

pub fn run(paths: &[String], json: bool, applier: &Applier) -> Result<(), Trouble> {
    let verdict = judge(&sources::gather(paths, applier)?);
    if json {
        say_json(&match &verdict {
            Ok(judged) => json!({ "ok": true, "digest": judged.digest, "problems": [] }),
            Err(problems) => json!({ "ok": false, "digest": null, "problems": problems }),
        })?;
    }
    let judged = verdict.map_err(Trouble::Problems)?;
    if json {
        return Ok(());
    }
    let config = judged.checked.config();
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let rules: usize = config.firewall_policies.values().map(|policy| policy.spec.rules.len()).sum();
    say(format!(
        "{}: {}, {}, {}, {} proved\ndigest {}",
        paint::for_stdout().good("no problems"),
        count(config.zones.len(), "zone", "zones"),
        count(config.interfaces.len(), "interface", "interfaces"),
        count(rules, "firewall rule", "firewall rules"),
        count(config.assertions.len(), "assertion", "assertions"),
        judged.digest,
    ))
}
