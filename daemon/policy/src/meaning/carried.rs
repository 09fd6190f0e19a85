//! What changes for mapped clients: who is carried, by what, and what of it is different.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::plan::proxy::{Mapping, Proxy};
use crate::plan::proxy_text::via;

pub fn changes(old: &Proxy, new: &Proxy) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names(&old.mappings, &new.mappings) {
        match (old.mappings.get(name), new.mappings.get(name)) {
            (None, Some(now)) => lines.push(format!("newly carried: clients of mapping {name}, by {}{}", via(&now.via), state(now))),
            (Some(before), None) => lines.push(format!("no longer carried: clients of mapping {name}, by {}", via(&before.via))),
            (Some(before), Some(now)) => {
                lines.extend(different(before, now).map(|what| format!("carried otherwise: mapping {name}, {what}")))
            }
            (None, None) => {}
        }
    }
    lines.extend(both("upstream", &old.upstreams, &new.upstreams));
    lines.extend(both("group", &old.groups, &new.groups));
    lines
}

fn state(mapping: &Mapping) -> &'static str {
    if mapping.enabled { "" } else { " (not enabled: they go nowhere)" }
}

/// None when packets see no difference.
fn different(before: &Mapping, now: &Mapping) -> Option<String> {
    let mut what = Vec::new();
    if before.enabled != now.enabled {
        what.push(if now.enabled { "now enabled".to_owned() } else { "no longer enabled: its clients go nowhere".to_owned() });
    }
    if before.via != now.via {
        what.push(format!("by {} instead of {}", via(&now.via), via(&before.via)));
    }
    for (word, more, less) in [("newly", now, before), ("no longer", before, now)] {
        let nets = more.clients.difference(&less.clients).map(ToString::to_string);
        let clients: Vec<String> = nets.chain(more.macs.difference(&less.macs).cloned()).collect();
        if !clients.is_empty() {
            what.push(format!("{word} {}", shortened(&clients)));
        }
    }
    let settings = [
        ("how TCP is captured", before.tcp != now.tcp),
        ("whether UDP is carried", before.udp != now.udp),
        ("name resolution", before.dns != now.dns),
        ("limits", before.quota != now.quota),
        ("times", before.schedule != now.schedule),
    ];
    let settings: Vec<&str> = settings.iter().filter(|(_, changed)| *changed).map(|(words, _)| *words).collect();
    if !settings.is_empty() {
        what.push(format!("other settings: {}", settings.join(", ")));
    }
    (!what.is_empty()).then(|| what.join("; "))
}

fn both<T: PartialEq>(kind: &str, old: &BTreeMap<Name, T>, new: &BTreeMap<Name, T>) -> Vec<String> {
    let word = |name: &Name| match (old.get(name), new.get(name)) {
        (None, Some(_)) => Some("new"),
        (Some(_), None) => Some("no longer there"),
        (before, now) if before != now => Some("with other settings"),
        _ => None,
    };
    names(old, new).into_iter().filter_map(|name| Some(format!("{kind} {name}: {}", word(name)?))).collect()
}

fn names<'m, T>(old: &'m BTreeMap<Name, T>, new: &'m BTreeMap<Name, T>) -> BTreeSet<&'m Name> {
    old.keys().chain(new.keys()).collect()
}

const SHOWN: usize = 8;

fn shortened(clients: &[String]) -> String {
    match clients.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", clients[..SHOWN].join(", ")),
        _ => clients.join(", "),
    }
}
