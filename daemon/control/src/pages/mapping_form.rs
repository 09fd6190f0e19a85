//! One mapping as a form: its fields from the resource, and the resource's text from what was typed.

use policy::model::{CaptureMode, Config, DnsMode, ProxyMapping, Resource};
use policy::name::Name;

use super::resource::{self, Subject, quoted};
use super::ui::{Choice, Field};
use crate::http::Fields;
use crate::trouble::Trouble;

/// The certificates of a DoH server are long and seldom change: the form carries them through untouched.
pub struct Kept {
    authority: Option<String>,
}

impl Kept {
    pub fn of(mapping: Option<&Resource<ProxyMapping>>) -> Self {
        match mapping.map(|mapping| &mapping.spec.dns) {
            Some(DnsMode::DohStub { doh_authority: Some(pem), .. }) => Kept { authority: Some(pem.0.clone()) },
            _ => Kept { authority: None },
        }
    }
}

/// What stands in the form when nothing was typed yet.
pub fn values(name: &Name, mapping: &Resource<ProxyMapping>) -> Fields {
    let spec = &mapping.spec;
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let via = match (&spec.upstream, &spec.group) {
        (Some(upstream), _) => format!("upstream {upstream}"),
        (None, Some(group)) => format!("group {group}"),
        (None, None) => String::new(),
    };
    let (dns, doh_url, doh_server) = match &spec.dns {
        DnsMode::Drop {} => ("drop", String::new(), String::new()),
        DnsMode::Proxied {} => ("proxied", String::new(), String::new()),
        DnsMode::DohStub { doh_url, doh_server, .. } => {
            ("dohStub", doh_url.clone(), doh_server.map_or_else(String::new, |server| server.to_string()))
        }
    };
    let (days, from, until) = spec.schedule.as_ref().map_or_else(Default::default, |schedule| {
        let days: Vec<String> = schedule.days.iter().map(ToString::to_string).collect();
        (days.join(", "), schedule.from.to_string(), schedule.until.to_string())
    });
    let clients: Vec<String> = spec.clients.iter().map(ToString::to_string).collect();
    let tcp = match spec.tcp {
        CaptureMode::Redirect => "redirect",
        CaptureMode::Tproxy => "tproxy",
    };
    let yes = |on: bool| if on { "yes" } else { "no" };
    let pairs = [
        ("name", name.to_string()),
        ("description", mapping.description.clone().unwrap_or_default()),
        ("clients", clients.join("\n")),
        ("via", via),
        ("tcp", tcp.to_owned()),
        ("udp", yes(spec.udp).to_owned()),
        ("dns", dns.to_owned()),
        ("dohUrl", doh_url),
        ("dohServer", doh_server),
        ("downMbit", number(spec.down_mbit.map(u64::from))),
        ("upMbit", number(spec.up_mbit.map(u64::from))),
        ("dailyMb", number(spec.daily_mb)),
        ("monthlyMb", number(spec.monthly_mb)),
        ("days", days),
        ("from", from),
        ("until", until),
        ("enabled", yes(spec.enabled).to_owned()),
    ];
    Fields::from(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Vec<_>>())
}

/// The form's inputs in their groups: who, how, limits, times.
pub struct Inputs {
    pub who: Vec<Field>,
    pub how: Vec<Field>,
    pub limits: Vec<Field>,
    pub times: Vec<Field>,
}

pub fn inputs(typed: &Fields, config: Option<&Config>, new: bool) -> Inputs {
    let value = |name: &str| typed.text(name).to_owned();
    let or = |name: &str, otherwise: &str| typed.get(name).filter(|text| !text.is_empty()).unwrap_or(otherwise).to_owned();
    let number = |name, label, hint: &str| Field::text(name, label, value(name)).inputmode("numeric").autocomplete("off").hint(hint);
    let mut who = Vec::new();
    if new {
        who.push(Field::text("name", "Name", value("name")).autocomplete("off").hint("Small letters, digits and -.").required());
    }
    who.push(Field::text("description", "Description", value("description")).autocomplete("off"));
    let mut clients = Field::text("clients", "Clients", value("clients"))
        .hint("One a line: address, prefix or hardware address. A client with addresses of both families is named by both.")
        .required();
    clients.rows = Some(4);
    who.push(clients);
    who.push(Field::select(
        "enabled",
        "State",
        or("enabled", "yes"),
        switch("carried", "switched off: blocked, and with no other way out"),
    ));
    let dns = [
        ("drop", "dropped"),
        ("proxied", "asked through the upstream, over TCP"),
        ("dohStub", "asked by DNS over HTTPS through the upstream"),
    ];
    let tcp = [("redirect", "redirect"), ("tproxy", "transparent (TPROXY)")];
    let choices = |all: &[(&str, &str)]| all.iter().map(|(value, label)| Choice::new(*value, *label)).collect();
    Inputs {
        who,
        how: vec![
            Field::select("via", "Way out", value("via"), vias(config)),
            Field::select("tcp", "TCP is captured by", or("tcp", "redirect"), choices(&tcp)),
            Field::select("udp", "UDP", or("udp", "yes"), switch("carried", "dropped")).hint("By upstreams that can; others drop it."),
            Field::select("dns", "Name resolution", or("dns", "drop"), choices(&dns)),
            Field::text("dohUrl", "DoH address", value("dohUrl")).hint("For DNS over HTTPS: https://name/path.").autocomplete("off"),
            Field::text("dohServer", "DoH server", value("dohServer"))
                .hint("Where that name is; empty: the upstream resolves it.")
                .autocomplete("off"),
        ],
        limits: vec![
            number("downMbit", "To the client", "Mbit/s; empty is not limited."),
            number("upMbit", "From the client", "Mbit/s; empty is not limited."),
            number("dailyMb", "A day", "MB in both directions, then blocked."),
            number("monthlyMb", "A month", "MB in both directions, then blocked."),
        ],
        times: vec![
            Field::text("days", "Days", value("days")).hint("mon, tue, …; empty is every day.").autocomplete("off"),
            Field::text("from", "From", value("from")).hint("HH:MM, local to the box.").autocomplete("off"),
            Field::text("until", "Until", value("until")).hint("HH:MM; before From it runs past midnight.").autocomplete("off"),
        ],
    }
}

fn switch(yes: &str, no: &str) -> Vec<Choice> {
    vec![Choice::new("yes", yes), Choice::new("no", no)]
}

fn vias(config: Option<&Config>) -> Vec<Choice> {
    let mut choices = vec![Choice::new("", "choose one")];
    if let Some(config) = config {
        choices.extend(config.upstream_groups.keys().map(|name| Choice::new(format!("group {name}"), format!("group {name}"))));
        choices.extend(config.upstreams.keys().map(|name| Choice::new(format!("upstream {name}"), name.to_string())));
    }
    choices
}

pub const SUBJECT: Subject = Subject { kind: "ProxyMapping", file: "mappings.yaml", field };

fn field(place: &str) -> &str {
    match resource::first(place) {
        "upstream" | "group" => "via",
        "schedule" => match place.strip_prefix("schedule.").map_or("", resource::first) {
            part @ ("days" | "until") => part,
            _ => "from",
        },
        "dohAuthority" => "dohServer",
        other => other,
    }
}

/// The resource as text.
pub fn text(name: &str, typed: &Fields, kept: &Kept) -> Result<String, Trouble> {
    let mut lines = resource::head("ProxyMapping", name, typed.text("description"))?;
    lines.push(format!("  clients: {}", resource::list(typed.text("clients"))?));
    match typed.text("via").split_once(' ') {
        Some((kind @ ("upstream" | "group"), of)) => lines.push(format!("  {kind}: {}", quoted(of)?)),
        _ => return Err(Trouble::field("via", "is missing; choose an upstream or a group")),
    }
    if typed.text("tcp") == "tproxy" {
        lines.push("  tcp: tproxy".to_owned());
    }
    if typed.text("udp") == "no" {
        lines.push("  udp: false".to_owned());
    }
    match typed.text("dns") {
        "proxied" => lines.push("  dns: proxied".to_owned()),
        "dohStub" => {
            lines.push("  dns: dohStub".to_owned());
            for field in ["dohUrl", "dohServer"] {
                let value = typed.text(field).trim();
                if !value.is_empty() {
                    lines.push(format!("  {field}: {}", quoted(value)?));
                }
            }
            if let Some(pem) = &kept.authority {
                lines.extend(resource::block("dohAuthority", pem));
            }
        }
        _ => {}
    }
    for field in ["downMbit", "upMbit", "dailyMb", "monthlyMb"] {
        if let Some(number) = typed.number::<u64>(field)? {
            lines.push(format!("  {field}: {number}"));
        }
    }
    let times: Vec<String> = ["days", "from", "until"]
        .into_iter()
        .map(|field| (field, typed.text(field).trim()))
        .filter(|(_, value)| !value.is_empty())
        .map(|(field, value)| Ok(format!("{field}: {}", if field == "days" { resource::list(value)? } else { quoted(value)? })))
        .collect::<Result<_, Trouble>>()?;
    if !times.is_empty() {
        lines.push(format!("  schedule: {{ {} }}", times.join(", ")));
    }
    if typed.text("enabled") == "no" {
        lines.push("  enabled: false".to_owned());
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;
    use policy::{Sources, edit};

    fn config(sources: &Sources) -> Config {
        policy::load(sources).expect("the sample is right").config().clone()
    }

    #[test]
    fn a_mapping_that_goes_through_the_form_means_the_same() {
        let sources = sample::carried_policy();
        let before = config(&sources);
        let mut after = sources.clone();
        for (name, mapping) in &before.proxy_mappings {
            let text = text(name.as_str(), &values(name, mapping), &Kept::of(Some(mapping))).expect("a text");
            after = edit::replace(&after, "ProxyMapping", name.as_str(), &text).expect("replaced");
        }
        let after = config(&after);
        for (name, mapping) in &before.proxy_mappings {
            assert_eq!((&mapping.spec, &mapping.description), (&after.proxy_mappings[name].spec, &after.proxy_mappings[name].description));
        }
    }

    #[test]
    fn what_is_typed_stays_a_value() {
        let pairs = [("clients", "192.168.2.10"), ("via", "upstream x\n  enabled: false"), ("description", "a\": b\n# c"), ("dns", "drop")];
        let typed = Fields::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
        let text = text("x", &typed, &Kept::of(None)).expect("a text");
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(!text.lines().any(|line| line.trim() == "enabled: false"), "{text}");
    }
}
