//! Which number a mapping has in marks. The same name keeps its number from one policy to the next, as far as names do not collide, so
//! that connections and classes of mappings that did not change need not change either.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::MAPPING_SHIFT;
use crate::name::Name;

/// The mark of packets and connections of this mapping.
pub fn mark(id: u16) -> u32 {
    u32::from(id) << MAPPING_SHIFT
}

/// The first two bytes of the name's hash; who finds the number taken gets the next one that is free. Never 0.
pub fn ids<'n>(names: impl IntoIterator<Item = &'n Name>) -> BTreeMap<&'n Name, u16> {
    let mut taken = BTreeSet::from([0]);
    let mut ids = BTreeMap::new();
    for name in names {
        let hash = Sha256::digest(name.as_str().as_bytes());
        let mut id = u16::from_be_bytes([hash[0], hash[1]]);
        // `check` admits far fewer mappings than there are numbers.
        while !taken.insert(id) {
            id = id.wrapping_add(1);
        }
        ids.insert(name, id);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_has_a_number_of_its_own_that_others_seldom_change() {
        let names: BTreeSet<Name> = (0..3000).map(|number| Name::try_from(format!("client-{number}").as_str()).unwrap()).collect();
        let all = ids(&names);
        let numbers: BTreeSet<u16> = all.values().copied().collect();
        assert_eq!(numbers.len(), 3000);
        assert!(!numbers.contains(&0));
        let half: BTreeSet<Name> = names.iter().step_by(2).cloned().collect();
        let fewer = ids(&half);
        let moved = fewer.iter().filter(|(name, id)| all[**name] != **id).count();
        assert!(moved < 75, "{moved} of 1500 have another number");
    }
}
