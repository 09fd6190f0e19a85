//! What happens to one packet, and which line of the policy is the reason.

use policy::explain::{Decided, Explanation, Query};
use policy::model::Config;
use policy::name::Name;
use policy::{Judged, Sources, explain};
use serde::Serialize;

use super::mappings;
use super::page::Page;
use super::policies::say_running;
use super::ui::{Badge, Choice, Fact, Field, Place, Tone, query};
use crate::candidate;
use crate::carried::Known;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[Route { method: Method::Get, path: "/explain", access: Access::May(Action::View), handler: show }];

#[derive(Debug, Serialize)]
struct Explain {
    subject: String,
    fields: Vec<Field>,
    answer: Option<Answer>,
    nothing: Option<&'static str>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Answer {
    tone: Tone,
    verdict: &'static str,
    packet: String,
    because: String,
    origin: Option<Place>,
    /// The mapping whose client sends it.
    client: Option<Client>,
    facts: Vec<Fact>,
    times: Vec<Time>,
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Client {
    mapping: String,
    href: String,
    via: String,
    origin: Place,
    /// Where the policy that runs is asked: whether it is let in at this moment.
    now: Option<Badge>,
    why: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Time {
    at: String,
    verdict: &'static str,
    because: String,
    origin: Option<Place>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Step {
    text: String,
    detail: String,
    origin: Option<Place>,
    decides: bool,
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    let asked = &visit.request.query;
    let running = visit.site.applier.running();
    let candidate = candidate::get(visit.site)?;
    let of_candidate = asked.text("policy") == "candidate" || running.is_none();
    let judgement = visit.site.judgements.of(&candidate.sources);
    let (judged, sources, subject) = if of_candidate {
        (judgement.as_ref().as_ref().ok(), &candidate.sources, "the candidate".to_owned())
    } else {
        let running = running.as_ref().ok_or_else(|| Trouble::Internal("nothing runs".to_owned()))?;
        (
            running.judged.as_ref(),
            &running.sources,
            format!("{}, which is in force", say_running(visit.site.applier.seen().status.as_ref())),
        )
    };
    let mut fields = fields(asked, judged.map(|judged| judged.checked.config()), running.is_some());
    let Some(judged) = judged else {
        let nothing =
            Some(if of_candidate { "There is no policy without problems to ask." } else { "What runs cannot be read by these pages." });
        return Page::new(visit, "Explain").draw("explain.html", &Explain { subject, fields, answer: None, nothing });
    };
    let (answer, trouble) = match asked.get("from").map(|_| answer(asked, judged, sources)) {
        None => (None, None),
        Some(Ok(mut answer)) => {
            if let Some(client) = answer.client.as_mut().filter(|_| !of_candidate) {
                client.look(&visit.site.carried.look(visit.site));
            }
            (Some(answer), None)
        }
        Some(Err(trouble)) => (None, Some(trouble)),
    };
    Page::new(visit, "Explain").told(&mut fields, trouble)?.draw("explain.html", &Explain { subject, fields, answer, nothing: None })
}

fn fields(asked: &Fields, config: Option<&Config>, runs: bool) -> Vec<Field> {
    let mut places: Vec<Choice> = Vec::new();
    if let Some(config) = config {
        places.extend(config.zones.keys().map(|zone| Choice::new(zone.as_str(), format!("zone {zone}"))));
        places.extend(config.interfaces.keys().map(|port| Choice::new(port.as_str(), format!("interface {port}"))));
    }
    places.push(Choice::new("box", "the box itself"));
    let protocols = ["tcp", "udp", "icmp", "icmpv6", "sctp", "gre", "esp"];
    let from = asked.get("from").map_or_else(|| places[0].value.clone(), str::to_owned);
    let mut fields = vec![
        Field::select("from", "From", from, places),
        Field::text("source", "Source", asked.text("source")).hint("Empty: some address there."),
        Field::text("mac", "Hardware address", asked.text("mac")).hint("Of the sender, by which it may be mapped.").autocomplete("off"),
        Field::text("destination", "Destination", asked.text("destination")).hint("Empty: the box."),
        Field::select(
            "protocol",
            "Protocol",
            asked.get("protocol").unwrap_or("tcp"),
            protocols.map(|name| Choice::new(name, name)).to_vec(),
        ),
        Field::text("port", "Port", asked.text("port")).hint("For ICMP its type."),
        Field::text("at", "When", asked.text("at")).hint("As in mon 12:00. Empty: whenever."),
    ];
    if runs {
        let policies = vec![Choice::new("running", "what runs"), Choice::new("candidate", "the candidate")];
        fields.push(Field::select("policy", "In", asked.get("policy").unwrap_or("running"), policies));
    }
    fields
}

fn answer(asked: &Fields, judged: &Judged, sources: &Sources) -> Result<Answer, Trouble> {
    let query = question(asked)?;
    let told = explain(&judged.checked, &judged.plan, &query).map_err(|bad| Trouble::field("source", format!("does not fit: {bad}")))?;
    Ok(shown(&told, sources))
}

/// Each part by itself, so that a slip is told at its own field.
fn question(asked: &Fields) -> Result<Query, Trouble> {
    let given = |name: &str| Some(asked.text(name).trim()).filter(|text| !text.is_empty()).map(str::to_owned);
    let from = asked.required("from")?;
    let parse = |to: &str, service: &str, at: Option<&str>| Query::parse(from, to, service, at);
    let wrong = |field: &'static str| move |bad: policy::explain::BadQuery| Trouble::field(field, format!("does not fit: {bad}"));

    let address = |name: &'static str| -> Result<_, Trouble> {
        let Some(text) = given(name) else { return Ok(None) };
        Ok(parse(&text, "tcp", None).map_err(wrong(name))?.destination)
    };
    let protocol = asked.get("protocol").unwrap_or("tcp").to_owned();
    let service = given("port").map_or_else(|| protocol.clone(), |port| format!("{protocol}/{port}"));
    let mut query = parse("box", &service, None).map_err(wrong("port"))?;
    query.source = address("source")?;
    query.destination = address("destination")?;
    let query = query.with_mac(given("mac").as_deref()).map_err(wrong("mac"))?;
    let at = match given("at") {
        Some(at) => parse("box", "tcp", Some(&at)).map_err(wrong("at"))?.at,
        None => None,
    };
    Ok(Query { at, ..query })
}

impl Client {
    fn of(client: &policy::explain::Client, sources: &Sources) -> Self {
        Client {
            mapping: client.mapping.to_string(),
            href: format!("/mappings/mapping?name={}", query(client.mapping.as_str())),
            via: client.via.clone(),
            origin: Place::of(&client.origin, sources),
            now: None,
            why: if client.enabled { String::new() } else { "The policy switches it off: it is never let in.".to_owned() },
        }
    }

    fn look(&mut self, known: &Known) {
        if let Ok(name) = Name::try_from(self.mapping.as_str()) {
            self.now = Some(mappings::state(known, &name));
            self.why = mappings::reason(known, &name);
        }
    }
}

fn shown(told: &Explanation, sources: &Sources) -> Answer {
    let (tone, verdict) = verdict(told.verdict);
    let mut facts = vec![Fact::new("Enters", told.enters.clone())];
    facts.extend(told.leaves.clone().map(|leaves| Fact::new(leaves_word(told), leaves)));
    for translated in &told.translations {
        let label = if translated.what == "source" { "Source becomes" } else { "Destination becomes" };
        let by = translated.by.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        facts.push(Fact::new(label, format!("{}{by}", translated.after)));
    }
    let place = |decided: &Decided| decided.origin.as_ref().map(|origin| Place::of(origin, sources));
    let last = told.way.len().saturating_sub(1);
    Answer {
        tone,
        verdict,
        packet: told.packet.clone(),
        because: if told.times.is_empty() { because(&told.decided) } else { "It depends on the time of the week:".to_owned() },
        origin: if told.times.is_empty() { place(&told.decided) } else { None },
        client: told.client.as_ref().map(|client| Client::of(client, sources)),
        facts,
        times: told
            .times
            .iter()
            .map(|time| Time {
                at: time.at.clone(),
                verdict: verdict_word(time.verdict),
                because: because(&time.decided),
                origin: place(&time.decided),
            })
            .collect(),
        steps: told
            .way
            .iter()
            .enumerate()
            .map(|(at, step)| Step {
                text: step.words.clone(),
                detail: format!(
                    "{}, chain {}{}",
                    step.hook,
                    step.chain,
                    step.rule.as_ref().map(|rule| format!(", rule {rule}")).unwrap_or_default()
                ),
                origin: step.origin.as_ref().map(|origin| Place::of(origin, sources)),
                decides: at == last,
            })
            .collect(),
    }
}

fn leaves_word(told: &Explanation) -> &'static str {
    match (told.verdict, &told.client) {
        ("accepted", _) => "Leaves",
        ("depends", Some(_)) => "Goes to, if let in",
        _ => "Was headed for",
    }
}

fn because(decided: &Decided) -> String {
    match &decided.rule {
        Some(rule) => format!("Decided by the rule {rule}: {}", decided.words),
        None => format!("Decided by: {}", decided.words),
    }
}

fn verdict(word: &str) -> (Tone, &'static str) {
    match word {
        "accepted" => (Tone::Ok, "Accepted"),
        "rejected" => (Tone::Warn, "Rejected"),
        "depends" => (Tone::Info, "It depends"),
        _ => (Tone::Bad, "Dropped"),
    }
}

fn verdict_word(word: &str) -> &'static str {
    verdict(word).1
}
