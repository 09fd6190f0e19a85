//! Users and what belongs to them, for those who manage them; the keys that sign tokens.

use serde::Deserialize;

use super::account::id;
use super::{Answer, Operation};
use crate::http::{Access, Method, Response, Visit};
use crate::role::{Action, Role};
use crate::trouble::Trouble;
use crate::{api_key, jwt, login, user};

const VIEW: Access = Access::May(Action::ViewUsers);
const MANAGE: Access = Access::May(Action::ManageUsers);

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Get,
        path: "/users",
        access: VIEW,
        handler: list,
        summary: "Everyone who may sign in.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Users"),
    },
    Operation {
        method: Method::Post,
        path: "/users",
        access: MANAGE,
        handler: create,
        summary: "A new user.",
        query: &[],
        body: Some("NewUser"),
        answer: Answer::Json(201, "User"),
    },
    Operation {
        method: Method::Get,
        path: "/users/{name}",
        access: VIEW,
        handler: get,
        summary: "One user.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "User"),
    },
    Operation {
        method: Method::Patch,
        path: "/users/{name}",
        access: MANAGE,
        handler: change,
        summary: "Change role, password, or whether the user may sign in at all.",
        query: &[],
        body: Some("UserChange"),
        answer: Answer::Json(200, "User"),
    },
    Operation {
        method: Method::Delete,
        path: "/users/{name}",
        access: MANAGE,
        handler: remove,
        summary: "Remove a user with all sessions and keys. The last admin stays.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Post,
        path: "/users/{name}/sign-out",
        access: MANAGE,
        handler: sign_out,
        summary: "End all sessions and tokens of a user.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Get,
        path: "/users/{name}/sessions",
        access: VIEW,
        handler: sessions,
        summary: "A user's signed-in browsers.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Sessions"),
    },
    Operation {
        method: Method::Get,
        path: "/users/{name}/keys",
        access: VIEW,
        handler: keys,
        summary: "A user's API keys, without their secrets.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Keys"),
    },
    Operation {
        method: Method::Delete,
        path: "/users/{name}/keys/{id}",
        access: MANAGE,
        handler: revoke_key,
        summary: "End a user's API key.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Get,
        path: "/signing-keys",
        access: Access::May(Action::RotateKeys),
        handler: signing_keys,
        summary: "The keys that sign tokens, without their secrets.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "SigningKeys"),
    },
    Operation {
        method: Method::Post,
        path: "/signing-keys",
        access: Access::May(Action::RotateKeys),
        handler: rotate,
        summary: "Sign with a new key; tokens of the old one stay good until they expire.",
        query: &[],
        body: None,
        answer: Answer::Json(201, "SigningKey"),
    },
];

fn list(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&user::list(visit.site)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    role: Role,
    password: String,
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let NewUser { name, role, password } = visit.request.json()?;
    Ok(Response::json(&user::create(visit.site, visit.actor()?, &name, role, &password)?).status(201))
}

fn get(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&user::get(visit.site, visit.param("name"))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserChange {
    role: Option<Role>,
    disabled: Option<bool>,
    password: Option<String>,
}

fn change(visit: &Visit) -> Result<Response, Trouble> {
    let (site, actor, name) = (visit.site, visit.actor()?, visit.param("name"));
    let UserChange { role, disabled, password } = visit.request.json()?;
    if let Some(password) = password {
        user::set_password(site, actor, name, &password)?;
    }
    if let Some(role) = role {
        user::set_role(site, actor, name, role)?;
    }
    if let Some(disabled) = disabled {
        user::set_disabled(site, actor, name, disabled)?;
    }
    get(visit)
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    user::remove(visit.site, visit.actor()?, visit.param("name"))?;
    Ok(Response::no_content())
}

fn sign_out(visit: &Visit) -> Result<Response, Trouble> {
    user::sign_out_everywhere(visit.site, visit.actor()?, visit.param("name"))?;
    Ok(Response::no_content())
}

fn sessions(visit: &Visit) -> Result<Response, Trouble> {
    let user = user::get(visit.site, visit.param("name"))?;
    Ok(Response::json(&login::sessions(visit.site, Some(&user.name))?))
}

fn keys(visit: &Visit) -> Result<Response, Trouble> {
    let user = user::get(visit.site, visit.param("name"))?;
    Ok(Response::json(&api_key::list(visit.site, Some(&user.name))?))
}

fn revoke_key(visit: &Visit) -> Result<Response, Trouble> {
    api_key::revoke(visit.site, visit.actor()?, id(visit)?, Some(visit.param("name")))?;
    Ok(Response::no_content())
}

fn signing_keys(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&jwt::keys(visit.site)?))
}

fn rotate(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&jwt::rotate(visit.site, visit.actor()?)?).status(201))
}
