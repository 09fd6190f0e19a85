//! The rules that translate, in the order in which they take effect.

use policy::model::{Config, NatKind, NatRule, PortRange, ZoneTerm};
use policy::{Origin, Sources};
use serde::Serialize;

use super::words;
use crate::pages::ui::Place;

#[derive(Debug, Serialize)]
pub struct NatRow {
    name: String,
    comment: Option<String>,
    kind: &'static str,
    from: Vec<String>,
    to: Vec<String>,
    sources: Vec<String>,
    destinations: Vec<String>,
    destinations_none: &'static str,
    services: Vec<String>,
    becomes: String,
    enabled: bool,
    origin: Place,
}

pub fn nat(config: &Config, sources: &Sources) -> Vec<NatRow> {
    let mut policies: Vec<_> = config.nat_policies.iter().collect();
    policies.sort_by_key(|(name, resource)| (resource.spec.order, *name));
    let rows = policies.into_iter().flat_map(|(name, resource)| {
        resource.spec.rules.iter().map(move |rule| {
            let origin = Origin { file: resource.origin.file.clone(), line: rule.line };
            nat_row(format!("{name}/{}", rule.value.name), &rule.value, Place::of(&origin, sources))
        })
    });
    rows.collect()
}

fn nat_row(name: String, rule: &NatRule, origin: Place) -> NatRow {
    let ports = |ports: &Option<PortRange>| ports.map_or_else(String::new, |ports| format!(", ports {ports}"));
    let (kind, to, becomes): (_, &[ZoneTerm], _) = match &rule.kind {
        NatKind::Masquerade { to } => ("masquerade", to, "source: the outgoing port's address".to_owned()),
        NatKind::Snat { to, to_address, to_ports } => ("snat", to, format!("source: {to_address}{}", ports(to_ports))),
        NatKind::PortForward { to_address, to_port, hairpin, permit } => {
            let port = to_port.map_or_else(String::new, |port| format!(", port {port}"));
            let notes = [(*hairpin, "also from inside"), (!*permit, "needs a rule that permits it")];
            let notes: String = notes.iter().filter(|(on, _)| *on).map(|(_, note)| format!(" · {note}")).collect();
            ("portForward", &[], format!("destination: {to_address}{port}{notes}"))
        }
        NatKind::Redirect { to_port } => ("redirect", &[], format!("the box itself, port {to_port}")),
    };
    NatRow {
        name,
        comment: rule.comment.clone(),
        destinations_none: if kind == "portForward" { "the box's own" } else { "any" },
        kind,
        from: words(&rule.from),
        to: words(to),
        sources: words(&rule.sources),
        destinations: words(&rule.destinations),
        services: words(&rule.services),
        becomes,
        enabled: rule.enabled,
        origin,
    }
}
