//! One upstream as a form: its fields from the resource, and the resource's text from what was typed.

use std::collections::BTreeSet;

use policy::model::{Config, Resource, Upstream, UpstreamType};
use policy::name::Name;

use super::resource::{self, Subject, quoted};
use super::ui::{Choice, Field};
use crate::carried::Known;
use crate::http::Fields;
use crate::trouble::{FieldProblem, Trouble};

pub const SUBJECT: Subject = Subject { kind: "Upstream", file: "upstreams.yaml", field };

fn field(place: &str) -> &str {
    match resource::first(place) {
        "passwordSecret" => "kept",
        other => other,
    }
}

const KINDS: [(&str, &str); 4] =
    [("socks5", "SOCKS5"), ("socks5Tls", "SOCKS5 over TLS"), ("httpConnect", "HTTP CONNECT"), ("httpsConnect", "HTTP CONNECT over TLS")];

/// What stands in the form when nothing was typed yet. A password is no part of it: nobody gives one back.
pub fn values(name: &Name, upstream: &Resource<Upstream>) -> Fields {
    let spec = &upstream.spec;
    let (kind, udp, server_name, authority) = match &spec.kind {
        UpstreamType::Socks5 { udp } => ("socks5", *udp, &None, &None),
        UpstreamType::Socks5Tls { server_name, authority } => ("socks5Tls", true, server_name, authority),
        UpstreamType::HttpConnect {} => ("httpConnect", true, &None, &None),
        UpstreamType::HttpsConnect { server_name, authority } => ("httpsConnect", true, server_name, authority),
    };
    let exits: Vec<String> = spec.expect_exit.iter().map(ToString::to_string).collect();
    let pairs = [
        ("name", name.to_string()),
        ("description", upstream.description.clone().unwrap_or_default()),
        ("type", kind.to_owned()),
        ("udp", if udp { "yes" } else { "no" }.to_owned()),
        ("address", spec.address.to_string()),
        ("port", spec.port.to_string()),
        ("username", spec.username.clone().unwrap_or_default()),
        ("kept", spec.password_secret.as_ref().map_or_else(String::new, ToString::to_string)),
        ("serverName", server_name.clone().unwrap_or_default()),
        ("authority", authority.as_ref().map_or_else(String::new, |pem| pem.0.clone())),
        ("probe", spec.probe.clone()),
        ("expectExit", exits.join("\n")),
    ];
    Fields::from(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Vec<_>>())
}

/// The form's inputs, one group after the other.
pub struct Inputs {
    pub what: Vec<Field>,
    pub who: Vec<Field>,
    pub tls: Vec<Field>,
    pub probe: Vec<Field>,
}

pub fn inputs(typed: &Fields, secrets: &BTreeSet<String>, new: bool) -> Inputs {
    let value = |name: &str| typed.text(name).to_owned();
    let or = |name: &str, otherwise: &str| typed.get(name).filter(|text| !text.is_empty()).unwrap_or(otherwise).to_owned();
    let rows = |mut field: Field, rows| {
        field.rows = Some(rows);
        field
    };
    let mut what = Vec::new();
    if new {
        what.push(Field::text("name", "Name", value("name")).autocomplete("off").hint("Small letters, digits and -.").required());
    }
    what.push(Field::text("description", "Description", value("description")).autocomplete("off"));
    what.push(Field::select("type", "Protocol", or("type", "socks5"), KINDS.map(|(value, label)| Choice::new(value, label)).to_vec()));
    what.push(
        Field::text("address", "Address", value("address")).hint("Of the proxy: an IP address, no name.").autocomplete("off").required(),
    );
    what.push(
        Field::text("port", "Port", value("port"))
            .inputmode("numeric")
            .hint("1080 for most SOCKS5 proxies.")
            .autocomplete("off")
            .required(),
    );
    what.push(
        Field::select("udp", "UDP", or("udp", "yes"), vec![Choice::new("yes", "carried"), Choice::new("no", "not carried")])
            .hint("By plain SOCKS5 that can associate (UDP ASSOCIATE); others carry none."),
    );
    let mut password =
        Field::password("password", "Password", "off").hint("Kept sealed, and never shown again. Empty: the secret chosen beside.");
    password.required = false;
    let mut kept = vec![Choice::new("", "none")];
    let chosen = value("kept");
    kept.extend(
        secrets
            .iter()
            .chain(Some(&chosen).filter(|name| !name.is_empty() && !secrets.contains(*name)))
            .map(|name| Choice::new(name.clone(), name.clone())),
    );
    Inputs {
        what,
        who: vec![
            Field::text("username", "User name", value("username")).hint("Empty: the proxy wants none.").autocomplete("off"),
            password,
            Field::select("kept", "Secret", chosen, kept).hint("Already kept passwords, by name."),
        ],
        tls: vec![
            Field::text("serverName", "Name in the certificate", value("serverName"))
                .hint("Empty: the address must be in it.")
                .autocomplete("off"),
            rows(Field::text("authority", "Authority", value("authority")).hint("PEM of who signed it. Empty: the public authorities."), 4),
        ],
        probe: vec![
            Field::text("probe", "Address to ask", value("probe"))
                .hint("http, asked through the upstream; it answers with the address that asked. Empty: api.ipify.org.")
                .autocomplete("off"),
            rows(
                Field::text("expectExit", "Must come out at", value("expectExit"))
                    .hint("Addresses and prefixes, one a line. Empty: anywhere but at the box itself."),
                3,
            ),
        ],
    }
}

/// What a typed password becomes: the name of a secret that nobody has set, so that what runs keeps its own until the change is applied.
pub fn new_secret(upstream: &Name, taken: &BTreeSet<String>) -> String {
    // A name has at most 40 letters.
    let stem: String = upstream.as_str().chars().take(26).collect();
    let stem = stem.trim_end_matches('-');
    let mut names = std::iter::once(format!("{stem}-password")).chain((2u32..).map(|number| format!("{stem}-password-{number}")));
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Names that a new secret must not take, and that can be chosen: those that are set, and those that some policy wants.
pub fn secrets(known: &Known, policies: &[Option<&Config>]) -> BTreeSet<String> {
    let wanted = policies
        .iter()
        .flatten()
        .flat_map(|config| config.upstreams.values())
        .filter_map(|upstream| upstream.spec.password_secret.as_ref());
    let set = known.applier.iter().flat_map(|status| status.secrets.iter().chain(&status.secrets_missing));
    wanted.map(ToString::to_string).chain(set.cloned()).collect()
}

/// The resource as text; `secret` is the name under which its password is or will be kept.
pub fn text(name: &str, typed: &Fields, secret: Option<&str>) -> Result<String, Trouble> {
    let kind = KINDS.iter().map(|(kind, _)| *kind).find(|kind| *kind == typed.text("type")).unwrap_or(KINDS[0].0);
    let value = |field: &str| typed.text(field).trim().to_owned();
    let mut wrong = Vec::new();
    let mut say = |field: &str, message: &str| wrong.push(FieldProblem { field: field.to_owned(), message: message.to_owned() });
    let (address, port) = (value("address"), value("port"));
    for (field, value) in [("address", &address), ("port", &port)] {
        if value.is_empty() {
            say(field, "is missing");
        }
    }
    for field in ["serverName", "authority"] {
        if !kind.ends_with("Tls") && kind != "httpsConnect" && !value(field).is_empty() {
            say(field, "belongs to a protocol over TLS; empty it, or choose one above");
        }
    }
    if !wrong.is_empty() {
        return Err(Trouble::Fields(wrong));
    }
    let mut lines = resource::head("Upstream", name, typed.text("description"))?;
    lines.push(format!("  type: {kind}"));
    lines.push(format!("  address: {}", quoted(&address)?));
    // A number as such; anything else as a text, of which the policy says what is wrong.
    lines.push(format!("  port: {}", port.parse::<u32>().map_or_else(|_| quoted(&port), |port| Ok(port.to_string()))?));
    if kind == "socks5" && typed.text("udp") == "no" {
        lines.push("  udp: false".to_owned());
    }
    for (field, value) in [
        ("username", typed.text("username").trim()),
        ("passwordSecret", secret.unwrap_or_default()),
        ("serverName", typed.text("serverName").trim()),
    ] {
        if !value.is_empty() {
            lines.push(format!("  {field}: {}", quoted(value)?));
        }
    }
    let authority = typed.text("authority").trim();
    if !authority.is_empty() {
        lines.extend(resource::block("authority", authority));
    }
    let probe = typed.text("probe").trim();
    if !probe.is_empty() {
        lines.push(format!("  probe: {}", quoted(probe)?));
    }
    let exits = resource::list(typed.text("expectExit"))?;
    if exits != "[]" {
        lines.push(format!("  expectExit: {exits}"));
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;
    use policy::{Sources, edit};

    fn config(sources: &Sources) -> Config {
        policy::load(sources).unwrap_or_else(|problems| panic!("{problems}")).config().clone()
    }

    #[test]
    fn an_upstream_that_goes_through_the_form_means_the_same() {
        let more = "---\napiVersion: portcullis/v1\nkind: Upstream\nmetadata: { name: riga }\nspec:\n  type: socks5\n  udp: false\n  address: \"2001:db8:9::1\"\n  port: 1081\n  probe: http://192.0.2.1:80/ip\n  expectExit: [192.0.2.0/24, \"2001:db8::/32\"]\n---\napiVersion: portcullis/v1\nkind: Upstream\nmetadata: { name: turin, description: \"a \\\"b\\\": c\" }\nspec: { type: httpsConnect, address: 203.0.113.12, port: 443, username: x, serverName: proxy.example.net }\n";
        let sources = Sources::single("carried.yaml", sample::carried_policy().0["carried.yaml"].clone() + more);
        let before = config(&sources);
        assert_eq!(before.upstreams.len(), 4);
        let mut after = sources.clone();
        for (name, upstream) in &before.upstreams {
            let values = values(name, upstream);
            let kept = values.text("kept").to_owned();
            let text = text(name.as_str(), &values, Some(&kept)).expect("a text");
            after = edit::replace(&after, "Upstream", name.as_str(), &text).expect("replaced");
        }
        let after = config(&after);
        for (name, upstream) in &before.upstreams {
            assert_eq!((&upstream.spec, &upstream.description), (&after.upstreams[name].spec, &after.upstreams[name].description));
        }
    }

    #[test]
    fn a_new_secret_takes_no_name_that_is_in_use() {
        let name = |text: &str| Name::try_from(text).expect("a name");
        let taken = BTreeSet::from(["oslo-password".to_owned(), "oslo-password-2".to_owned()]);
        assert_eq!(new_secret(&name("oslo"), &taken), "oslo-password-3");
        assert_eq!(new_secret(&name("riga"), &taken), "riga-password");
        let long = name("abcdefghijklmnopqrstuvwxy-z0123456789012");
        let secret = new_secret(&long, &BTreeSet::from(["abcdefghijklmnopqrstuvwxy-password".to_owned()]));
        assert!(Name::try_from(secret.as_str()).is_ok(), "{secret}");
    }

    #[test]
    fn what_is_typed_stays_a_value() {
        let pairs = [
            ("address", "192.0.2.1\n  x: y"),
            ("type", "socks5Tls"),
            ("port", "80, z: 1"),
            ("username", "a\": b\n# c"),
            ("serverName", "n\n---"),
            ("authority", "---\nkind: Zone\n"),
        ];
        let typed = Fields::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
        let text = text("x", &typed, None).expect("a text");
        let sources = edit::insert(&Sources::default(), "a.yaml", &text).expect("one resource");
        let (config, problems) = policy::read::read(&sources);
        assert!(config.zones.is_empty() && !problems.is_empty());
        assert!(!text.lines().any(|line| line.trim() == "x: y" || line.starts_with("---") || line.starts_with("kind: Zone")), "{text}");
    }
}
