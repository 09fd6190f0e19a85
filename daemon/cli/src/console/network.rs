//! Links, and the repair of the port over which the box is administered: a change of the policy like any other, on trial.

use std::collections::BTreeMap;

use policy::first::{self, PortChoice};
use policy::messages::{ApplierRequest, ApplierResponse};
use policy::{Sources, edit, judge};

use super::Console;
use super::overview::Overview;
use super::peers::{Said, console, unexpected};
use super::terminal::{Answer, Gone};

/// Long enough to walk to a browser.
const TRIAL: u32 = 300;

const MOST_CHANGES: usize = 8;

/// What somebody wants of one port.
struct Wish {
    port: String,
    zone: String,
    /// Empty asks a DHCP server.
    addresses: Vec<String>,
    gateway: Option<String>,
}

impl Console {
    pub fn network(&mut self) -> Result<(), Gone> {
        let overview = Overview::take(&self.peers);
        if overview.links.is_empty() {
            return self.terminal.say("This machine has no network port that the kernel knows.");
        }
        for (number, link) in (1..).zip(&overview.links) {
            self.terminal.say(&format!("{number:2} {:<10} {}", link.name, overview.link(link)))?;
        }
        let Answer::Text(choice) = self.terminal.ask("Which port should be set? Its number, or Enter for none:")? else {
            return self.terminal.say("Nothing was changed.");
        };
        let Some(link) = choice.parse::<usize>().ok().and_then(|number| overview.links.get(number.checked_sub(1)?)) else {
            return self.terminal.say(&format!("\"{choice}\" is not one of these numbers. Nothing was changed."));
        };
        let zones: Vec<String> = overview.policy.iter().flat_map(|policy| policy.config().zones.keys().map(ToString::to_string)).collect();
        let question =
            if zones.is_empty() { "Its zone (a name, such as lan):".to_owned() } else { format!("Its zone ({}):", zones.join(", ")) };
        let Answer::Text(zone) = self.terminal.ask(&question)? else { return self.terminal.say("Nothing was changed.") };
        let Answer::Text(address) = self.terminal.ask("Its address with prefix length (192.168.1.1/24), or dhcp:")? else {
            return self.terminal.say("Nothing was changed.");
        };
        let gateway = match self.terminal.ask("The gateway to everywhere else, or Enter to leave that as it is:")? {
            Answer::Text(gateway) => Some(gateway),
            Answer::Nothing => None,
        };
        let addresses =
            if address == "dhcp" { vec![] } else { address.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect() };
        self.repair(&Wish { port: link.name.clone(), zone, addresses, gateway })
    }

    fn repair(&mut self, wish: &Wish) -> Result<(), Gone> {
        let (old, new) = match self.policy_with(wish) {
            Ok(both) => both,
            Err(why) => return self.tell(Err(why)),
        };
        let judged = match judge(&new) {
            Ok(judged) => judged,
            Err(problems) => return self.tell(Err(format!("the policy would have problems, nothing was changed:\n{problems}"))),
        };
        let before = old.as_ref().and_then(|old| judge(old).ok()).map(|judged| judged.plan).unwrap_or_default();
        let changes = policy::changes(&before, &judged.plan).to_string();
        self.terminal.say("What this changes:")?;
        let lines: Vec<&str> = changes.trim_end().lines().collect();
        if lines.is_empty() {
            self.terminal.say("no rule; only addresses and routes")?;
        }
        // More would scroll the question away that they belong to.
        lines.iter().take(MOST_CHANGES).try_for_each(|line| self.terminal.say(line))?;
        if lines.len() > MOST_CHANGES {
            self.terminal.say(&format!("and {} more, which the pages show under Preview", lines.len() - MOST_CHANGES))?;
        }
        if !self.terminal.is_sure(&format!("It is tried for {TRIAL} s and then goes back by itself."))? {
            return self.terminal.say("Nothing was changed.");
        }
        let request = ApplierRequest::Apply { sources: new, digest: judged.digest, confirm_within: Some(TRIAL), by: console() };
        let done = match self.peers.change(&request) {
            Ok(ApplierResponse::OnTrial { generation, .. }) => {
                Ok(format!("Generation {generation} is on trial. Try to reach the box now, and if that works, confirm with 2."))
            }
            Ok(other) => Err(unexpected("applier", &other)),
            Err(why) => Err(why),
        };
        self.tell(done)
    }

    /// The policy that stands, or was confirmed last, with the port as wished; a new one where there is none.
    fn policy_with(&self, wish: &Wish) -> Said<(Option<Sources>, Sources)> {
        let status = self.peers.status()?;
        let Some(number) = status.running.map(|running| running.number).or(status.last_confirmed) else {
            let port = PortChoice { name: wish.port.clone(), zone: Some(wish.zone.clone()), addresses: wish.addresses.clone() };
            let new = first::policy("portcullis", &wish.zone, &[port]);
            return Ok((None, with_gateway(new, wish)?));
        };
        match self.peers.glance(&ApplierRequest::Sources { generation: Some(number) })? {
            ApplierResponse::Sources { sources, .. } => {
                let with_port = put(&sources, &interface(wish))?;
                Ok((Some(sources), with_gateway(with_port, wish)?))
            }
            other => Err(unexpected("applier", &other)),
        }
    }
}

fn interface(wish: &Wish) -> BTreeMap<&'static str, String> {
    let how = if wish.addresses.is_empty() {
        "dhcp: [ipv4, ipv6]".to_owned()
    } else {
        format!("addresses: [{}]", wish.addresses.iter().map(|address| quoted(address)).collect::<Vec<_>>().join(", "))
    };
    BTreeMap::from([
        ("kind", "Interface".into()),
        ("name", wish.port.clone()),
        ("spec", format!("{{ zone: {}, {how} }}", quoted(&wish.zone))),
    ])
}

/// Replaces the default route of that family, whatever it was called.
fn with_gateway(sources: Sources, wish: &Wish) -> Said<Sources> {
    let Some(gateway) = &wish.gateway else { return Ok(sources) };
    let is_v6 = gateway.contains(':');
    let checked = policy::load(&sources).ok();
    let is_default = |destination: &str| destination == if is_v6 { "::/0" } else { "0.0.0.0/0" };
    let there = checked.iter().flat_map(|checked| &checked.config().routes);
    let there = there.filter(|(_, route)| is_default(&route.spec.destination.to_string())).map(|(name, _)| name.to_string()).next();
    let name = there.unwrap_or_else(|| if is_v6 { "console-gateway6" } else { "console-gateway" }.to_owned());
    let spec = format!("{{ destination: default, via: {} }}", quoted(gateway));
    put(&sources, &BTreeMap::from([("kind", "Route".into()), ("name", name), ("spec", spec)]))
}

fn put(sources: &Sources, resource: &BTreeMap<&'static str, String>) -> Said<Sources> {
    let file = sources.0.keys().next().cloned().unwrap_or_else(|| "policy.yaml".to_owned());
    let text = format!(
        "apiVersion: portcullis/v1\nkind: {}\nmetadata: {{ name: {} }}\nspec: {}\n",
        resource["kind"],
        quoted(&resource["name"]),
        resource["spec"]
    );
    edit::put(sources, &file, &[text]).map_err(|refused| refused.to_string())
}

/// Whatever was typed is one value and nothing else.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
