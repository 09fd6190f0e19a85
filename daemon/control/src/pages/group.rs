//! One group of upstreams: which member carries, when that changed, and the form that changes it in the candidate.

use std::collections::BTreeMap;

use policy::Sources;
use policy::messages::forwarder::HealthStatus;
use policy::model::{Config, GroupStrategy, Resource, UpstreamGroup};
use policy::name::Name;
use serde::Serialize;

use super::format::{Clock, Stamp, plural};
use super::latency::{self, Latency};
use super::mapping::written;
use super::mappings::absences;
use super::page::{self, Page};
use super::resource::{self, Refusal, Subject, named, quoted};
use super::ui::{Badge, Choice, Fact, Field, Place, ShownProblem, Tone, query};
use super::upstreams::{Policies, group_of, group_state, state, strategy, why};
use crate::candidate::Candidate;
use crate::carried::Known;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const EDIT: Access = Access::May(Action::Edit);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/upstreams/group", access: Access::May(Action::View), handler: show },
    Route { method: Method::Post, path: "/upstreams/group", access: EDIT, handler: change },
    Route { method: Method::Get, path: "/upstreams/group/new", access: EDIT, handler: show_new },
    Route { method: Method::Post, path: "/upstreams/group/new", access: EDIT, handler: create },
    Route { method: Method::Post, path: "/upstreams/group/remove", access: EDIT, handler: remove },
];

#[derive(Debug, Serialize)]
struct Group {
    name: String,
    new: bool,
    intro: &'static str,
    runs: bool,
    key: String,
    state: Badge,
    may_edit: bool,
    /// It stands in the candidate.
    written: bool,
    base: u64,
    origin: Option<Place>,
    facts: Vec<Fact>,
    members: Vec<Member>,
    history: Vec<Change>,
    refused: bool,
    problems: Vec<ShownProblem>,
    what: Vec<Field>,
    chosen: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    href: String,
    key: String,
    state: Badge,
    why: String,
    latency: String,
    spark: Option<Latency>,
}

/// A member came or went.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    at: Option<Stamp>,
    /// Of the group, from then on.
    state: Badge,
    member: String,
    became: Badge,
    why: String,
}

const SUBJECT: Subject = Subject { kind: "UpstreamGroup", file: "upstreams.yaml", field: resource::first };
const MOST_CHANGES: usize = 100;
/// Places for members that the form offers beside those that are taken.
const FREE: usize = 2;
const FEWEST: usize = 4;

fn values(name: &Name, group: &Resource<UpstreamGroup>) -> Fields {
    let spec = &group.spec;
    let strategy = match spec.strategy {
        GroupStrategy::Priority => "priority",
        GroupStrategy::RoundRobin => "roundRobin",
        GroupStrategy::Latency => "latency",
    };
    let pairs = [
        ("name", name.to_string()),
        ("description", group.description.clone().unwrap_or_default()),
        ("strategy", strategy.to_owned()),
        ("failAfter", spec.fail_after.to_string()),
        ("recoverAfter", spec.recover_after.to_string()),
    ];
    let members = spec.members.iter().map(|member| ("members", member.to_string()));
    Fields::from(pairs.into_iter().chain(members).map(|(name, value)| (name.to_owned(), value)).collect::<Vec<_>>())
}

fn inputs(typed: &Fields, config: &Config, new: bool) -> (Vec<Field>, Vec<Field>) {
    let value = |name: &str| typed.text(name).to_owned();
    let or = |name: &str, otherwise: &str| typed.get(name).filter(|text| !text.is_empty()).unwrap_or(otherwise).to_owned();
    let number = |name, label, hint: &str| Field::text(name, label, or(name, "2")).inputmode("numeric").autocomplete("off").hint(hint);
    let strategies = [GroupStrategy::Priority, GroupStrategy::RoundRobin, GroupStrategy::Latency];
    let words = ["priority", "roundRobin", "latency"];
    let strategies = words.into_iter().zip(strategies).map(|(word, of)| Choice::new(word, strategy(of))).collect();
    let mut what = Vec::new();
    if new {
        what.push(Field::text("name", "Name", value("name")).autocomplete("off").hint("Small letters, digits and -.").required());
    }
    what.push(Field::text("description", "Description", value("description")).autocomplete("off"));
    what.push(Field::select("strategy", "Carries by", or("strategy", "priority"), strategies));
    what.push(number("failAfter", "Failed after", "Failures in a row, 1 to 20."));
    what.push(number("recoverAfter", "Healthy again after", "Good probes in a row, 1 to 20."));
    let members: Vec<&str> = typed.all("members").filter(|member| !member.is_empty()).collect();
    let places = (members.len() + FREE).max(FEWEST).min(config.upstreams.len().max(members.len()).max(1));
    let choices = |chosen: &str| {
        let mut choices = vec![Choice::new("", "nobody")];
        choices.extend(config.upstreams.keys().map(|name| Choice::new(name.as_str(), name.as_str())));
        if !chosen.is_empty() && !config.upstreams.keys().any(|name| name.as_str() == chosen) {
            choices.push(Choice::new(chosen, format!("{chosen} (not there)")));
        }
        choices
    };
    let place = |at: usize| {
        let chosen = members.get(at).copied().unwrap_or_default();
        Field::select("members", "Member", chosen, choices(chosen)).numbered(at + 1)
    };
    (what, (0..places).map(place).collect())
}

fn text(name: &str, typed: &Fields) -> Result<String, Trouble> {
    let mut lines = resource::head("UpstreamGroup", name, typed.text("description"))?;
    if let word @ ("roundRobin" | "latency") = typed.text("strategy") {
        lines.push(format!("  strategy: {word}"));
    }
    let members: Vec<String> = typed.all("members").filter(|member| !member.is_empty()).map(quoted).collect::<Result<_, _>>()?;
    lines.push(format!("  members: [{}]", members.join(", ")));
    for field in ["failAfter", "recoverAfter"] {
        if let Some(number) = typed.number::<u64>(field)? {
            lines.push(format!("  {field}: {number}"));
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let text = visit.request.query.required("name")?;
    let name = Name::try_from(text).map_err(|_| Trouble::no_such("group", text))?;
    let (candidate, config) = written(visit)?;
    let typed = config.upstream_groups.get(&name).map(|group| values(&name, group));
    draw(visit, Some(&name), typed.as_ref(), &candidate, &config, Refusal::default())
}

fn show_new(visit: &Visit) -> Result<Response, Trouble> {
    let (candidate, config) = written(visit)?;
    draw(visit, None, Some(&visit.request.query), &candidate, &config, Refusal::default())
}

fn draw(
    visit: &Visit,
    name: Option<&Name>,
    typed: Option<&Fields>,
    candidate: &Candidate,
    config: &Config,
    mut refusal: Refusal,
) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let known = visit.site.carried.look(visit.site);
    let none = Sources::default();
    let policies = Policies {
        running: page::config(&seen),
        written: Some(config),
        running_text: seen.running.as_ref().map_or(&none, |running| &running.sources),
        written_text: &candidate.sources,
    };
    let found = name.and_then(|name| policies.find(name, |config| &config.upstream_groups));
    if let (Some(name), None) = (name, &found) {
        return Err(Trouble::no_such("group", name.as_str()));
    }
    let nothing = Fields::default();
    let (mut fields, chosen) = inputs(typed.unwrap_or(&nothing), config, name.is_none());
    let own = fields.len();
    fields.extend(chosen);
    let about_the_form = refusal.is_about_the_form();
    refusal.mark(&mut fields);
    let title = name.map_or_else(|| "New group".to_owned(), Name::to_string);
    let mut page = Page::new(visit, title.clone()).live("upstreams").told(&mut fields, refusal.trouble)?;
    if about_the_form {
        page = page.status(422);
    }
    let chosen = fields.split_off(own);
    let runs = found.as_ref().is_some_and(|(.., runs)| *runs);
    let is_written = name.is_none_or(|name| config.upstream_groups.contains_key(name));
    let names: &[Name] = found.as_ref().filter(|(.., runs)| *runs).map_or(&[], |(group, ..)| &group.spec.members);
    let view = Group {
        key: format!("group.{title}"),
        new: name.is_none(),
        intro: match (name, runs, is_written) {
            (None, ..) => {
                "Several upstreams, of which those that are up carry. It goes into the candidate; nothing reaches the gate before you apply it."
            }
            (_, true, false) => "The candidate no longer has it; it runs until that is applied.",
            (_, false, _) => "It stands in the candidate and does not run yet.",
            _ => "With no member up, nothing is carried. Saving changes the candidate only.",
        },
        runs,
        state: if runs {
            group_state(names, &known)
        } else {
            Badge::new(Tone::Info, if name.is_some() { "in the candidate" } else { "new" })
        },
        may_edit: visit.may(Action::Edit),
        written: is_written,
        base: candidate.version,
        facts: name.zip(found.as_ref()).map_or_else(Vec::new, |(name, (group, ..))| facts(name, &group.spec, &policies)),
        origin: found.as_ref().map(|(_, origin, _)| origin.clone()),
        members: names.iter().map(|name| member(name, &known)).collect(),
        history: changes(names, &known, &page::clock(visit)),
        refused: about_the_form,
        problems: refusal.elsewhere,
        what: fields,
        chosen,
        name: title,
    };
    absences(page, &known).draw("group.html", &view)
}

fn facts(name: &Name, group: &UpstreamGroup, policies: &Policies) -> Vec<Fact> {
    let users = policies.users_of_group(name);
    vec![
        Fact::new("Carries by", strategy(group.strategy)),
        Fact::new("A member is failed after", format!("{} in a row", plural(group.fail_after as usize, "failure", "failures"))),
        Fact::new("and healthy again after", format!("{} in a row", plural(group.recover_after as usize, "good probe", "good probes"))),
        Fact::new("Used by", if users.is_empty() { "no mapping".to_owned() } else { users.join(", ") }),
    ]
}

fn member(name: &Name, known: &Known) -> Member {
    let health = known.health(name);
    Member {
        name: name.to_string(),
        href: format!("/upstreams/upstream?name={}", query(name.as_str())),
        key: format!("up.{name}"),
        state: state(health),
        why: why(health),
        latency: health.and_then(|health| health.latency_us).map_or_else(|| "–".to_owned(), latency::say),
        spark: latency::latency(known.history(name), format!("up.{name}.spark")),
    }
}

/// Every moment at which a member became something else, newest first, and what the group was from then on.
fn changes(members: &[Name], known: &Known, clock: &Clock) -> Vec<Change> {
    let mut probes: Vec<_> = members.iter().flat_map(|member| known.history(member).iter().map(move |health| (member, health))).collect();
    probes.sort_by_key(|(_, health)| health.at);
    let mut now: BTreeMap<&Name, HealthStatus> = BTreeMap::new();
    let mut changes = Vec::new();
    for (member, health) in probes {
        if now.insert(member, health.status) == Some(health.status) {
            continue;
        }
        changes.push(Change {
            at: clock.stamp(health.at),
            // While not every member has been heard of, nothing can be said of the group.
            state: if now.len() < members.len() {
                group_of(std::iter::empty())
            } else {
                group_of(members.iter().map(|member| now.get(member).copied()))
            },
            member: member.to_string(),
            became: state(Some(health)),
            why: why(Some(health)),
        });
    }
    changes.reverse();
    changes.truncate(MOST_CHANGES);
    changes
}

fn change(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("group")?)?;
    write(visit, &typed, &name, false)
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    match typed.required("name").and_then(named) {
        Ok(name) => write(visit, &typed, &name, true),
        Err(trouble) => {
            let (candidate, config) = written(visit)?;
            draw(visit, None, Some(&typed), &candidate, &config, trouble.into())
        }
    }
}

fn write(visit: &Visit, typed: &Fields, name: &Name, new: bool) -> Result<Response, Trouble> {
    let (candidate, config) = written(visit)?;
    let base = typed.number("base")?.unwrap_or(0);
    let text = text(name.as_str(), typed).map_err(Refusal::from);
    let saved = text.and_then(|text| resource::write(visit, &SUBJECT, name, new, base, &text, || Ok(())));
    saved.or_else(|refusal| draw(visit, (!new).then_some(name), Some(typed), &candidate, &config, refusal))
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let typed = visit.request.form()?;
    let name = named(typed.required("group")?)?;
    let (candidate, config) = written(visit)?;
    let removed =
        resource::remove(visit, &SUBJECT, &name, typed.number("base")?.unwrap_or(0), "Its members stay as upstreams of their own.");
    removed.or_else(|refusal| draw(visit, Some(&name), Some(&typed), &candidate, &config, refusal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::sample;

    #[test]
    fn a_group_that_goes_through_the_form_means_the_same() {
        let sources = sample::carried_policy();
        let config = |sources: &Sources| policy::load(sources).expect("it is right").config().clone();
        let before = config(&sources);
        let name = sample::name("europe");
        let text = text("europe", &values(&name, &before.upstream_groups[&name])).expect("a text");
        let after = config(&policy::edit::replace(&sources, "UpstreamGroup", "europe", &text).expect("replaced"));
        assert_eq!(before.upstream_groups[&name].spec, after.upstream_groups[&name].spec);
    }

    #[test]
    fn a_group_is_as_well_as_its_members_and_its_history_tells_when_that_changed() {
        let known = Known { forwarder: Some(sample::forwarder_status()), ..Known::default() };
        let told = changes(&[sample::name("berlin"), sample::name("oslo")], &known, &sample::clock());
        let words: Vec<_> =
            told.iter().map(|change| (change.member.as_str(), change.became.word.as_str(), change.state.word.as_str())).collect();
        assert_eq!(words[0], ("oslo", "failed", "degraded"), "{words:?}");
        assert!(words.contains(&("oslo", "healthy", "healthy")), "{words:?}");
        let word = |members: &[Option<HealthStatus>]| group_of(members.iter().copied()).word;
        use HealthStatus::{Degraded, Failed, Healthy};
        assert_eq!(word(&[Some(Healthy), Some(Healthy)]), "healthy");
        assert_eq!(word(&[Some(Degraded), Some(Degraded)]), "degraded");
        assert_eq!(word(&[Some(Failed), Some(Healthy)]), "degraded");
        assert_eq!(word(&[Some(Failed), Some(Failed)]), "failed");
        assert_eq!(word(&[Some(Failed), None]), "not known");
        assert_eq!(word(&[]), "not known");
    }
}
