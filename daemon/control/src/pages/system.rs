//! What this box is, what its kernel can do, and which of its processes answer.

use std::path::Path;

use policy::Sources;
use policy::messages::Status;
use policy::model::{Config, Drift, HotReload, OutputPosture};
use serde::Serialize;

use super::firewall::words;
use super::format::{self, Clock};
use super::page::{self, Page};
use super::ui::{Fact, Place};
use crate::applier::Seen;
use crate::http::{Access, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/system", access: Access::May(Action::View), handler: show }];

/// Written by scripts/image.
const RECIPE: &str = "/usr/lib/portcullis/recipe";

#[derive(Debug, Serialize)]
struct System {
    intro: &'static str,
    may_update: bool,
    sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
struct Section {
    title: &'static str,
    origin: Option<Place>,
    facts: Vec<Fact>,
    nothing: &'static str,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let clock = page::clock(visit);
    let none = Sources::default();
    let sources = seen.running.as_ref().map_or(&none, |running| &running.sources);
    let (settings, origin) = settings(page::config(&seen), sources);
    let view = System {
        may_update: visit.may(Action::Update),
        intro: "What this box is and what it can do. The settings are lines of the policy; change them there.",
        sections: vec![
            Section { title: "Settings", origin, facts: settings, nothing: "No policy runs, so the box has no settings yet." },
            Section {
                title: "Image",
                origin: None,
                facts: image(Path::new(RECIPE)),
                nothing: "These programs do not run from an image: nothing names all that is on this box.",
            },
            Section { title: "Processes", origin: None, facts: processes(&seen, &clock), nothing: "" },
            Section {
                title: "Kernel",
                origin: None,
                facts: kernel(seen.status.as_ref()),
                nothing: "Not known: the applier does not answer.",
            },
        ],
    };
    Page::new(visit, "System").draw("system.html", &view)
}

fn settings(config: Option<&Config>, sources: &Sources) -> (Vec<Fact>, Option<Place>) {
    let Some((_, system)) = config.and_then(|config| config.system.as_ref()) else { return (Vec::new(), None) };
    let spec = &system.spec;
    let from = if spec.admin.sources.is_empty() { "any address there".to_owned() } else { words(&spec.admin.sources).join(", ") };
    let facts = vec![
        Fact::new("Host name", spec.hostname.clone()),
        Fact::new("Time zone", spec.timezone.clone()),
        Fact::new("Administered from", format!("{}, {from}", words(&spec.admin.zones).join(", "))),
        Fact::new("Port of these pages", spec.admin.port.to_string()),
        Fact::new("ssh", if spec.admin.ssh { "open to the same" } else { "closed" }),
        Fact::new(
            "What the box may send",
            match spec.output {
                OutputPosture::Accept => "anything",
                OutputPosture::Strict => "only what it needs and rules name",
            },
        ),
        Fact::new("Time to confirm", format!("{} s", spec.confirm_within.as_secs())),
        Fact::new(
            "Drift",
            match spec.drift {
                Drift::Repair => "is repaired",
                Drift::Report => "is reported",
            },
        ),
        Fact::new(
            "Changed policy files",
            match spec.hot_reload {
                HotReload::Wait => "wait for a decision",
                HotReload::Apply => "are applied on trial",
            },
        ),
        Fact::new("Requests a minute", format!("{} for each address", spec.requests_per_minute)),
    ];
    (facts, Some(Place::of(&system.origin, sources)))
}

/// What the running image was made of, as one number. Whoever builds the same recipe gets the same bytes.
fn image(recipe: &Path) -> Vec<Fact> {
    let Ok(recipe) = std::fs::read_to_string(recipe) else { return Vec::new() };
    vec![Fact::new("Recipe", recipe.trim().to_owned()), Fact::new("What it is made of", "/usr/share/portcullis/sbom.json")]
}

fn processes(seen: &Seen, clock: &Clock) -> Vec<Fact> {
    let applier = match (&seen.status, &seen.away) {
        (Some(_), _) => format!("answered {} ago", format::span(clock.now.saturating_sub(seen.at))),
        (None, Some(why)) => format!("does not answer: {why}"),
        (None, None) => "has not been asked yet".to_owned(),
    };
    vec![Fact::new("Control (these pages)", format!("version {}", env!("CARGO_PKG_VERSION"))), Fact::new("Applier", applier)]
}

fn kernel(status: Option<&Status>) -> Vec<Fact> {
    let Some(status) = status else { return Vec::new() };
    let has = |feature: &str| if status.features.iter().any(|known| known == feature) { "yes" } else { "no" };
    let mut facts = vec![
        Fact::new("Tables that no other program may flush", has("table-owner")),
        Fact::new("Tables that outlive their owner", has("table-persist")),
    ];
    let others: Vec<&str> = status.features.iter().map(String::as_str).filter(|feature| !feature.starts_with("table-")).collect();
    if !others.is_empty() {
        facts.push(Fact::new("Also", others.join(", ")));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_what_it_was_made_of_and_another_machine_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("recipe");
        assert!(image(&recipe).is_empty());
        std::fs::write(&recipe, "5b1f\n").unwrap();
        assert_eq!(serde_json::to_value(image(&recipe)).unwrap()[0]["value"], "5b1f");
    }
}
