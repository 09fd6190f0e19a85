//! The secrets that upstreams want: their names, whether they are set, and setting them. No value comes back.

use std::collections::BTreeMap;

use policy::model::Config;
use serde::Serialize;

use super::ui::{Badge, Field, Tone};
use super::upstreams;
use crate::carried::{self, Known};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::Action;
use crate::trouble::Trouble;

const OPERATE: Access = Access::May(Action::Operate);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Post, path: "/upstreams/secret", access: OPERATE, handler: set },
    Route { method: Method::Post, path: "/upstreams/secret/remove", access: OPERATE, handler: remove },
];

#[derive(Debug, Serialize)]
pub struct SecretRow {
    name: String,
    state: Badge,
    used_by: Vec<String>,
    set: bool,
}

/// Those that the policy names and those that are set.
pub fn rows(config: &Config, known: &Known) -> Vec<SecretRow> {
    let Some(status) = &known.applier else { return Vec::new() };
    let mut users: BTreeMap<String, Vec<String>> =
        status.secrets.iter().chain(&status.secrets_missing).map(|name| (name.clone(), Vec::new())).collect();
    for (name, upstream) in &config.upstreams {
        if let Some(secret) = &upstream.spec.password_secret {
            users.entry(secret.to_string()).or_default().push(name.to_string());
        }
    }
    let row = |(name, used_by): (String, Vec<String>)| {
        let set = status.secrets.contains(&name);
        let state = match (set, used_by.is_empty()) {
            (true, false) => Badge::new(Tone::Ok, "set"),
            (true, true) => Badge::new(Tone::Plain, "set, not used"),
            (false, _) => Badge::new(Tone::Bad, "not set"),
        };
        SecretRow { name, state, used_by, set }
    };
    users.into_iter().map(row).collect()
}

pub fn fields(typed: &Fields) -> Vec<Field> {
    vec![
        Field::text("name", "Name of the secret", typed.text("name"))
            .hint("As the policy writes it: passwordSecret.")
            .autocomplete("off")
            .required(),
        Field::password("value", "Password", "off").hint("Takes effect at once."),
    ]
}

fn set(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let name = form.text("name").trim();
    match form.required("name").and_then(|_| carried::set_secret(visit.site, visit.actor()?, name, form.text("value"))) {
        Ok(()) => Ok(Response::see_other("/upstreams").flash(flash::Tone::Ok, format!("The secret {name} is set."))),
        Err(trouble) => upstreams::draw(visit, &form, Some(trouble)),
    }
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let name = form.required("name")?;
    carried::remove_secret(visit.site, visit.actor()?, name)?;
    Ok(Response::see_other("/upstreams")
        .flash(flash::Tone::Warn, format!("The secret {name} is forgotten. Mappings that need it are blocked.")))
}
