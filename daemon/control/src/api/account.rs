//! The first admin, tokens, and what is one's own.

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Operation};
use crate::actor::Via;
use crate::http::{Access, Method, Response, Visit};
use crate::role::{Action, Role};
use crate::trouble::Trouble;
use crate::{api_key, jwt, login, setup, user};

const OWN: Access = Access::May(Action::UseOwnAccount);

pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::Post,
        path: "/setup",
        access: Access::Anyone,
        handler: set_up,
        summary: "Create the first admin with the one-time code from the box's console.",
        query: &[],
        body: Some("Setup"),
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Post,
        path: "/tokens",
        access: Access::Anyone,
        handler: issue_token,
        summary: "A token for 15 minutes, for a name and password.",
        query: &[],
        body: Some("Credentials"),
        answer: Answer::Json(201, "Token"),
    },
    Operation {
        method: Method::Post,
        path: "/tokens/renew",
        access: OWN,
        handler: renew_token,
        summary: "A new token for whoever is signed in by token or key.",
        query: &[],
        body: None,
        answer: Answer::Json(201, "Token"),
    },
    Operation {
        method: Method::Get,
        path: "/account",
        access: OWN,
        handler: account,
        summary: "Who you are.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Account"),
    },
    Operation {
        method: Method::Post,
        path: "/account/password",
        access: OWN,
        handler: change_password,
        summary: "Change your own password; you are signed out everywhere.",
        query: &[],
        body: Some("PasswordChange"),
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Post,
        path: "/account/sign-out",
        access: OWN,
        handler: sign_out_everywhere,
        summary: "End all your sessions and tokens.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Get,
        path: "/account/sessions",
        access: OWN,
        handler: sessions,
        summary: "Your signed-in browsers.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Sessions"),
    },
    Operation {
        method: Method::Delete,
        path: "/account/sessions/{id}",
        access: OWN,
        handler: end_session,
        summary: "End one of your sessions.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
    Operation {
        method: Method::Get,
        path: "/account/keys",
        access: OWN,
        handler: keys,
        summary: "Your API keys, without their secrets.",
        query: &[],
        body: None,
        answer: Answer::Json(200, "Keys"),
    },
    Operation {
        method: Method::Post,
        path: "/account/keys",
        access: OWN,
        handler: create_key,
        summary: "A new API key; its text is told this once.",
        query: &[],
        body: Some("NewKey"),
        answer: Answer::Json(201, "CreatedKey"),
    },
    Operation {
        method: Method::Delete,
        path: "/account/keys/{id}",
        access: OWN,
        handler: revoke_key,
        summary: "End one of your API keys.",
        query: &[],
        body: None,
        answer: Answer::Nothing,
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    code: String,
    user: String,
    password: String,
}

fn set_up(visit: &Visit) -> Result<Response, Trouble> {
    let Setup { code, user, password } = visit.request.json()?;
    setup::redeem(visit.site, &visit.request.client, &code, &user, &password)?;
    Ok(Response::no_content())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    user: String,
    password: String,
}

fn issue_token(visit: &Visit) -> Result<Response, Trouble> {
    let Credentials { user, password } = visit.request.json()?;
    let actor = login::verify(visit.site, visit.request, &user, &password)?;
    token(visit, &actor)
}

fn renew_token(visit: &Visit) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    // A key may have less than its owner's role, and a token always has the owner's: it would be a way up.
    if let Via::ApiKey { .. } = actor.via
        && user::get(visit.site, &actor.user)?.role != actor.role
    {
        return Err(Trouble::Forbidden("this key has a lesser role than its owner and cannot get tokens; use the key itself".to_owned()));
    }
    token(visit, actor)
}

fn token(visit: &Visit, actor: &crate::Actor) -> Result<Response, Trouble> {
    let token = jwt::issue(visit.site, actor)?;
    Ok(Response::json(&json!({ "token": token, "expiresIn": jwt::LIFE })).status(201))
}

fn account(visit: &Visit) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    let via = match actor.via {
        Via::Session { .. } => "session",
        Via::ApiKey { .. } => "key",
        Via::Token { .. } => "token",
        Via::Box => "box",
    };
    let may: Vec<&str> = Action::ALL.into_iter().filter(|action| actor.role.may(*action)).map(Action::name).collect();
    Ok(Response::json(&json!({ "user": actor.user, "role": actor.role, "via": via, "may": may })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    old: String,
    password: String,
}

fn change_password(visit: &Visit) -> Result<Response, Trouble> {
    let PasswordChange { old, password } = visit.request.json()?;
    user::change_own_password(visit.site, visit.actor()?, &old, &password)?;
    Ok(Response::no_content())
}

fn sign_out_everywhere(visit: &Visit) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    user::sign_out_everywhere(visit.site, actor, &actor.user)?;
    Ok(Response::no_content())
}

fn sessions(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&login::sessions(visit.site, Some(&visit.actor()?.user))?))
}

fn end_session(visit: &Visit) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    login::end_session(visit.site, actor, id(visit)?, Some(&actor.user))?;
    Ok(Response::no_content())
}

fn keys(visit: &Visit) -> Result<Response, Trouble> {
    Ok(Response::json(&api_key::list(visit.site, Some(&visit.actor()?.user))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    role: Role,
    days: Option<u32>,
}

fn create_key(visit: &Visit) -> Result<Response, Trouble> {
    let NewKey { name, role, days } = visit.request.json()?;
    let (key, text) = api_key::create(visit.site, visit.actor()?, &name, role, days)?;
    Ok(Response::json(&json!({ "key": key, "secret": text })).status(201))
}

fn revoke_key(visit: &Visit) -> Result<Response, Trouble> {
    let actor = visit.actor()?;
    api_key::revoke(visit.site, actor, id(visit)?, Some(&actor.user))?;
    Ok(Response::no_content())
}

pub fn id(visit: &Visit) -> Result<i64, Trouble> {
    visit.param("id").parse().map_err(|_| Trouble::no_such("id", visit.param("id")))
}
