use std::collections::BTreeMap;
use std::time::Duration;

use policy::name::Name;

use super::permits::Effect;

/// Effects, gathered so that each kind takes one call.
#[derive(Default)]
pub struct Deeds {
    pub withdrawn: Vec<(Name, u16)>,
    pub granted: Vec<(u16, Duration)>,
    pub ended: BTreeMap<String, Vec<Name>>,
    pub ids: Vec<u16>,
    pub probed: Vec<Name>,
}

impl Deeds {
    pub fn of(effects: Vec<Effect>) -> Deeds {
        let mut deeds = Deeds::default();
        for effect in effects {
            match effect {
                Effect::Grant { id, lasts } => deeds.granted.push((id, lasts)),
                Effect::Probe(names) => deeds.probed.extend(names),
                Effect::Withdraw { mapping, id, why } => {
                    deeds.withdrawn.push((mapping.clone(), id));
                    deeds.end(mapping, id, why);
                }
                Effect::End { mapping, id, why } => deeds.end(mapping, id, why),
            }
        }
        deeds
    }

    fn end(&mut self, mapping: Name, id: u16, why: String) {
        self.ended.entry(why).or_default().push(mapping);
        self.ids.push(id);
    }
}
