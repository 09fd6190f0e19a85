//! What surrounds every page: who is signed in, where one can go, the state of the gate, a trial that waits.

use policy::messages::Status;
use serde::Serialize;

use super::format::Clock;
use super::gate::{self, Banner};
use super::ui::{Badge, Notice, Tone};

/// The frame's own data; a template finds it under `shell`, and the page's own fields beside it.
#[derive(Debug, Clone, Serialize)]
pub struct Shell {
    pub title: String,
    pub hostname: Option<String>,
    /// Some once signed in.
    pub user: Option<Who>,
    pub csrf: String,
    /// `light` or `dark` where the person chose; otherwise the system decides.
    pub theme: Option<String>,
    pub themes: Vec<Theme>,
    /// Where this page can be asked for again.
    pub path: String,
    pub nav: Vec<Vec<NavItem>>,
    pub gate: Badge,
    /// Changes when the state of the gate does; see [`gate::fingerprint`].
    pub state: String,
    pub trial: Option<Banner>,
    pub notices: Vec<Notice>,
    /// Where live figures for this page come from.
    pub events: Option<String>,
    /// Of the assets, so that they can be cached for ever.
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Who {
    pub name: String,
    pub role: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Theme {
    pub value: &'static str,
    pub label: &'static str,
    /// For `aria-pressed`.
    pub pressed: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NavItem {
    pub href: &'static str,
    pub icon: &'static str,
    pub label: &'static str,
    pub current: bool,
    pub count: Option<Badge>,
}

/// Which entries of the navigation a role sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sees {
    pub audit: bool,
    pub users: bool,
}

pub fn themes(chosen: Option<&str>) -> Vec<Theme> {
    let all = [("auto", "Auto"), ("light", "Light"), ("dark", "Dark")];
    let pressed = |value| if chosen.unwrap_or("auto") == value { "true" } else { "false" };
    all.into_iter().map(|(value, label)| Theme { value, label, pressed: pressed(value) }).collect()
}

/// `section` is the page's place: the first part of its path.
pub fn nav(section: &str, sees: Sees, status: Option<&Status>, candidate: bool) -> Vec<Vec<NavItem>> {
    let open = status.map_or(0, |status| status.drift.iter().filter(|finding| !finding.repaired).count());
    let item =
        |href: &'static str, icon: &'static str, label: &'static str| NavItem { href, icon, label, current: href == section, count: None };
    let mut policies = item("/policies", "policies", "Policies");
    policies.count = candidate.then(|| Badge::new(Tone::Info, "changed"));
    let mut drift = item("/drift", "drift", "Drift");
    drift.count = (open > 0).then(|| Badge::new(Tone::Warn, open.to_string()));

    let mut people = Vec::new();
    if sees.users {
        people.push(item("/users", "users", "Users"));
    }
    people.push(item("/keys", "keys", "API keys"));
    people.push(item("/system", "system", "System"));

    let mut records = vec![item("/history", "history", "History"), drift];
    if sees.audit {
        records.push(item("/audit", "audit", "Audit"));
    }
    vec![
        vec![
            item("/", "dashboard", "Dashboard"),
            item("/firewall", "firewall", "Firewall"),
            policies,
            item("/explain", "explain", "Explain"),
        ],
        vec![
            item("/mappings", "mappings", "Mappings"),
            item("/upstreams", "upstreams", "Upstreams"),
            item("/connections", "connections", "Connections"),
        ],
        vec![item("/alerts", "alerts", "Alerts"), item("/seen", "seen", "Events")],
        records,
        people,
    ]
}

/// What is known of the gate goes into the frame in one step.
impl Shell {
    pub fn about_the_gate(&mut self, status: Option<&Status>, clock: &Clock, may_decide: bool) {
        self.gate = gate::badge(status);
        self.state = gate::fingerprint(status);
        self.trial = gate::banner(status, clock, &self.path, may_decide);
    }
}
