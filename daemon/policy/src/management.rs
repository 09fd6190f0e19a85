//! What is left of a policy when the box should do nothing but be administered.

use crate::check::{Checked, check};
use crate::model::Config;
use crate::problem::Problems;

/// The same box, ports, zones and routes, so that those who administer reach it as before; no rule of any kind, nobody carried.
///
/// What refers to nothing that was taken out stays valid, so Err would be a mistake of ours.
pub fn management_only(policy: &Checked) -> Result<Checked, Problems> {
    let all = policy.config().clone();
    let kept = Config {
        system: all.system,
        interfaces: all.interfaces,
        zones: all.zones,
        address_sets: all.address_sets,
        routes: all.routes,
        ..Config::default()
    };
    check(kept, Problems::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starting::starting_points;
    use crate::{Sources, compile, load};

    #[test]
    fn every_starting_point_can_be_reduced_to_its_administration() {
        for point in starting_points() {
            let whole = load(&Sources::single("policy.yaml", point.text)).unwrap();
            let left = management_only(&whole).unwrap();
            assert_eq!(left.config().interfaces, whole.config().interfaces, "{}", point.name);
            assert!(left.config().firewall_policies.is_empty() && left.config().nat_policies.is_empty(), "{}", point.name);
            let (whole, left) = (compile(&whole), compile(&left));
            assert_eq!(left.links, whole.links, "{}", point.name);
            assert!(left.to_string().contains("admin access"), "{}: nobody could administer it", point.name);
            assert!(left.proxy.mappings.is_empty(), "{}", point.name);
        }
    }
}
