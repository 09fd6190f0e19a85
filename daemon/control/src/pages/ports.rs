//! What the box's ports are for: guessed, and confirmed by a person before anything rests on the guess.

use policy::first::{self, PortChoice};
use policy::messages::Port;
use policy::model::Config;
use policy::{Problems, Sources};
use serde::Serialize;

use super::page::{self, Page};
use super::ui::{self, Choice, Field, ShownProblem};
use crate::applier::Seen;
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::revision::FoundIn;
use crate::role::Action;
use crate::trial;
use crate::trouble::Trouble;

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/setup/ports", access: Access::May(Action::Apply), handler: show },
    Route { method: Method::Post, path: "/setup/ports", access: Access::May(Action::Apply), handler: apply },
];

#[derive(Debug, Serialize)]
struct Ports {
    rows: Vec<Row>,
    fields: Vec<Field>,
    zones: Vec<Choice>,
    problems: Vec<ShownProblem>,
    minutes: u32,
    /// The box runs a policy that somebody wrote.
    closed: bool,
}

/// One port: what the kernel sees, and what it is for.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    mac: String,
    link: String,
    now: String,
    zone: String,
    addresses: String,
}

/// Long enough to plug a cable into another port and to sign in again.
const TRIAL: u32 = 300;

const NO_ZONE: &str = "none";

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw(visit, None, Vec::new())
}

fn apply(visit: &Visit) -> Result<Response, Trouble> {
    if !is_guessed(&visit.site.applier.seen()) {
        return Err(Trouble::Conflict("the box runs a policy of its own, which this would replace; change it there".to_owned()));
    }
    let form = visit.request.form()?;
    let ports: Vec<PortChoice> = visit.site.applier.ports()?.iter().map(|port| chosen(&form, port)).collect();
    let sources = first::policy(form.text("hostname").trim(), form.text("admin").trim(), &ports);
    match &*visit.site.judgements.of(&sources) {
        Err(problems) => draw(visit, Some(&form), shown(problems, &sources)),
        Ok(judged) => {
            let message = "the ports, as said when the box was set up";
            match trial::put_on_trial(visit.site, visit.actor()?, &sources, &judged.digest, message, Some(TRIAL), FoundIn::Candidate) {
                Ok(_) => {
                    let text = format!(
                        "This runs on trial. Open {} now, sign in, and confirm within {} minutes.",
                        places(&form, &ports),
                        TRIAL / 60
                    );
                    Ok(Response::see_other("/trial").flash(flash::Tone::Info, text))
                }
                Err(trouble @ (Trouble::Refused(_) | Trouble::WentBack(_) | Trouble::Conflict(_))) => {
                    let mut problems = Problems::default();
                    problems.general(trouble.to_string());
                    draw(visit, Some(&form), shown(&problems, &sources))
                }
                Err(trouble) => Err(trouble),
            }
        }
    }
}

/// Only what the box came with may be replaced as a whole: nobody has written a policy yet: what runs is the box's own guess, or nothing.
pub fn is_guessed(seen: &Seen) -> bool {
    seen.status.as_ref().is_some_and(|status| status.running.as_ref().is_none_or(|running| running.by == "factory"))
}

fn chosen(form: &Fields, port: &Port) -> PortChoice {
    let zone = form.text(&format!("zone-{}", port.name)).trim();
    let addresses = form.text(&format!("addresses-{}", port.name));
    PortChoice {
        name: port.name.clone(),
        zone: (!zone.is_empty() && zone != NO_ZONE).then(|| zone.to_owned()),
        addresses: addresses.split([',', ' ']).filter(|part| !part.is_empty() && *part != "dhcp").map(str::to_owned).collect(),
    }
}

/// Where the pages will be.
fn places(form: &Fields, ports: &[PortChoice]) -> String {
    let admin = ports.iter().filter(|port| port.zone.as_deref() == Some(form.text("admin").trim()));
    let addresses = admin.flat_map(|port| &port.addresses).filter_map(|address| address.split('/').next());
    let found: Vec<String> = addresses
        .map(|address| if address.contains(':') { format!("https://[{address}]/") } else { format!("https://{address}/") })
        .collect();
    if found.is_empty() { "the box at the address that DHCP gives it (the console shows it)".to_owned() } else { found.join(" or ") }
}

fn draw(visit: &Visit, form: Option<&Fields>, problems: Vec<ShownProblem>) -> Result<Response, Trouble> {
    let seen = visit.site.applier.seen();
    let config = page::config(&seen);
    let typed = |name: &str, guess: String| form.map_or(guess, |form| form.text(name).to_owned());
    let row = |port: Port| {
        let (zone, addresses) = guess(config, &port);
        Row {
            zone: typed(&format!("zone-{}", port.name), zone),
            addresses: typed(&format!("addresses-{}", port.name), addresses),
            link: link(&port),
            now: if port.addresses.is_empty() { "none".to_owned() } else { port.addresses.join(", ") },
            mac: port.mac,
            name: port.name,
        }
    };
    let system = config.and_then(|config| config.system.as_ref());
    let admin = system.and_then(|(_, system)| system.spec.admin.zones.first().map(ToString::to_string)).unwrap_or_else(|| "lan".to_owned());
    let hostname = system.map_or("portcullis".to_owned(), |(_, system)| system.spec.hostname.clone());
    let zones: Vec<Choice> =
        [("wan", "wan: the internet"), ("lan", "lan: own devices"), ("guest", "guest: visitors"), ("dmz", "dmz: servers")]
            .map(|(value, label)| Choice::new(value, label))
            .into();
    let status = if problems.is_empty() { 200 } else { 422 };
    let view = Ports {
        rows: visit.site.applier.ports()?.into_iter().map(row).collect(),
        fields: vec![
            Field::text("hostname", "Name of the box", typed("hostname", hostname)).required(),
            Field::select("admin", "Administered from", typed("admin", admin), zones.clone())
                .hint("These pages are open to this zone and to no other."),
        ],
        zones: zones.into_iter().chain([Choice::new(NO_ZONE, "not used")]).collect(),
        problems,
        minutes: TRIAL / 60,
        closed: !is_guessed(&seen),
    };
    Page::new(visit, "Ports").status(status).draw("ports.html", &view)
}

fn guess(config: Option<&Config>, port: &Port) -> (String, String) {
    let interface = config.and_then(|config| config.interfaces.iter().find(|(name, _)| name.as_str() == port.name));
    match interface {
        None => (NO_ZONE.to_owned(), String::new()),
        Some((_, interface)) => {
            let addresses: Vec<String> = interface.spec.addresses.iter().map(ToString::to_string).collect();
            (interface.spec.zone.to_string(), addresses.join(", "))
        }
    }
}

fn link(port: &Port) -> String {
    match (port.carrier, port.speed) {
        (Some(true), Some(speed)) => format!("connected, {speed} Mbit/s"),
        (Some(true), None) => "connected".to_owned(),
        (Some(false), _) => "no cable".to_owned(),
        (None, _) => "switched off".to_owned(),
    }
}

fn shown(problems: &Problems, sources: &Sources) -> Vec<ShownProblem> {
    ui::problems(problems, sources, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;
    use crate::story::Story;

    const FORM: &str = "hostname=gate&admin=lan&zone-eth0=wan&addresses-eth0=&zone-eth1=lan&addresses-eth1=10.1.1.1%2F24";

    fn box_with_ports() -> (Story, String) {
        let story = Story::with_people();
        let port =
            |name: &str, carrier| Port { name: name.into(), mac: format!("02:00:00:00:00:0{}", &name[3..]), carrier, ..Port::default() };
        story.box_.lock().unwrap().ports = vec![port("eth0", Some(true)), port("eth1", Some(false))];
        story.poll();
        let secret = story.browser(Role::Admin);
        (story, secret)
    }

    fn html(response: &Response) -> String {
        String::from_utf8_lossy(response.bytes()).into_owned()
    }

    #[test]
    fn each_port_is_shown_with_what_the_kernel_sees() {
        let (story, secret) = box_with_ports();
        let page = html(&story.send(&story.with_cookie(Method::Get, "/setup/ports", &secret)));
        for wanted in ["eth0", "02:00:00:00:00:00", "connected", "no cable", "zone-eth1", "Administered from"] {
            assert!(page.contains(wanted), "{wanted} is missing");
        }
    }

    #[test]
    fn what_a_person_says_of_the_ports_goes_on_trial() {
        let (story, secret) = box_with_ports();
        let answer = story.send(&story.form("/setup/ports", &secret, FORM));
        assert_eq!(answer.status, 303, "{}", html(&answer));
        let status = story.site.applier.status().unwrap();
        assert_eq!(status.trial.map(|trial| trial.by), Some("admin".to_owned()));
        let running = story.site.applier.running().unwrap();
        assert!(running.sources.0[first::FILE].contains("'10.1.1.1/24'"));
    }

    #[test]
    fn a_mistake_keeps_what_was_typed_and_changes_nothing() {
        let (story, secret) = box_with_ports();
        let answer = story.send(&story.form("/setup/ports", &secret, &FORM.replace("10.1.1.1", "10.1.1.300")));
        assert_eq!(answer.status, 422);
        assert!(html(&answer).contains("value=\"10.1.1.300/24\"") || html(&answer).contains("10.1.1.300&#x2f;24"), "{}", html(&answer));
        assert_eq!(story.site.applier.status().unwrap().running, None);
    }

    #[test]
    fn a_policy_that_somebody_wrote_is_not_replaced() {
        let (story, secret) = box_with_ports();
        story.box_.lock().unwrap().install(crate::story::policy("own"), "ada");
        story.poll();
        let page = html(&story.send(&story.with_cookie(Method::Get, "/setup/ports", &secret)));
        assert!(page.contains("policy of its own") && !page.contains("Apply on trial"), "{page}");
        assert_eq!(story.send(&story.form("/setup/ports", &secret, FORM)).status, 409);
    }
}
