//! Safe mode: lockdown, and those who administer.

use policy::{Plan, Sources, compile, load, management_only};

use crate::lockdown;

/// The plan of a policy without its rules, and with lockdown's own chain and switches where packets would be led on.
pub fn plan(sources: &Sources) -> Result<Plan, String> {
    let checked = load(sources).and_then(|checked| management_only(&checked)).map_err(|problems| problems.to_string())?;
    let mut plan = compile(&checked);
    let shut = lockdown::plan();
    for table in &mut plan.ruleset.tables {
        for (name, chain) in shut.ruleset.tables.iter().filter(|shut| shut.name == table.name).flat_map(|shut| &shut.chains) {
            if name == FORWARD {
                table.chains.insert(name.clone(), chain.clone());
            }
        }
    }
    plan.sysctls.extend(shut.sysctls);
    Ok(plan)
}

const FORWARD: &str = "forward";

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = include_str!("../../policy/cases/plan/guest-zone-reaches-only-dns-and-the-internet/config.yaml");

    #[test]
    fn in_safe_mode_nothing_is_forwarded_and_administration_goes_on() {
        let point = policy::starting_points().first().unwrap();
        let plan = plan(&Sources::single("policy.yaml", point.text)).unwrap();
        let table = &plan.ruleset.tables[0];
        assert_eq!(table.chains[FORWARD], lockdown::plan().ruleset.tables[0].chains[FORWARD]);
        assert_eq!(plan.sysctls["net/ipv4/ip_forward"], "0");
        assert_eq!(plan.sysctls["net/ipv6/conf/all/forwarding"], "0");
        assert!(plan.to_string().contains("admin access"));
    }

    #[test]
    fn a_policy_that_is_none_is_told() {
        assert!(plan(&Sources::single("policy.yaml", &POLICY[..20])).is_err());
    }
}
