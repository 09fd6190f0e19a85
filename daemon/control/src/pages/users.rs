//! Who may sign in, and as what.

use serde::Serialize;

use super::format::Stamp;
use super::page::{self, Page};
use super::setup::same_twice;
use super::ui::{Badge, Choice, Field, Tone, query};
use crate::flash;
use crate::http::{Access, Fields, Method, Response, Route, Visit};
use crate::role::{Action, Role};
use crate::trouble::Trouble;
use crate::user::{self, User};

const MANAGE: Access = Access::May(Action::ManageUsers);

pub const ROUTES: &[Route] = &[
    Route { method: Method::Get, path: "/users", access: Access::May(Action::ViewUsers), handler: list },
    Route { method: Method::Post, path: "/users", access: MANAGE, handler: create },
    Route { method: Method::Get, path: "/users/user", access: MANAGE, handler: show },
    Route { method: Method::Post, path: "/users/role", access: MANAGE, handler: set_role },
    Route { method: Method::Post, path: "/users/password", access: MANAGE, handler: set_password },
    Route { method: Method::Post, path: "/users/disable", access: MANAGE, handler: set_disabled },
    Route { method: Method::Post, path: "/users/remove", access: MANAGE, handler: remove },
];

#[derive(Debug, Serialize)]
struct Users {
    users: Vec<UserRow>,
    users_word: &'static str,
    may_manage: bool,
    fields: Vec<Field>,
    roles: Vec<RoleRow>,
}

#[derive(Debug, Serialize)]
struct UserRow {
    name: String,
    href: String,
    role: String,
    state: Badge,
    off: bool,
    created: Option<Stamp>,
    seen: Option<Stamp>,
}

#[derive(Debug, Serialize)]
struct RoleRow {
    name: &'static str,
    text: &'static str,
}

#[derive(Debug, Serialize)]
struct OneUser {
    name: String,
    intro: String,
    state: Badge,
    role_fields: Vec<Field>,
    password_fields: Vec<Field>,
    access: &'static str,
    disabled: bool,
    /// Nobody shuts themselves out.
    own: bool,
}

/// What a role may do, to its bearer.
pub fn says(role: Role) -> &'static str {
    match role {
        Role::Admin => "Everything, users too.",
        Role::Operator => "Changes the policy and puts it into effect.",
        Role::Viewer => "Sees the box, changes nothing.",
        Role::Auditor => "Sees the box, the users and the audit log, changes nothing.",
    }
}

pub fn role_choices() -> Vec<Choice> {
    Role::ALL.iter().map(|role| Choice::new(role.name(), role.name())).collect()
}

fn state(user: &User) -> Badge {
    if user.disabled { Badge::new(Tone::Plain, "disabled") } else { Badge::new(Tone::Ok, "active") }
}

fn list(visit: &Visit) -> Result<Response, Trouble> {
    draw_list(visit, &Fields::default(), None)
}

fn create(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let created = form.text("role").parse().and_then(|role| {
        let password = form.required("password")?;
        user::create(visit.site, visit.actor()?, form.text("name").trim(), role, password)
    });
    match created {
        Ok(user) => Ok(Response::see_other("/users").flash(flash::Tone::Ok, format!("{} may sign in as {} now.", user.name, user.role))),
        Err(trouble) => draw_list(visit, &form, Some(trouble)),
    }
}

fn draw_list(visit: &Visit, typed: &Fields, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let clock = page::clock(visit);
    let row = |user: User| UserRow {
        href: format!("/users/user?name={}", query(&user.name)),
        role: user.role.to_string(),
        state: state(&user),
        off: user.disabled,
        created: clock.stamp(user.created_at),
        seen: user.last_login_at.and_then(|at| clock.stamp(at)),
        name: user.name,
    };
    let users: Vec<UserRow> = user::list(visit.site)?.into_iter().map(row).collect();
    let role = typed.get("role").unwrap_or("viewer");
    let mut fields = vec![
        Field::text("name", "User name", typed.text("name")).autocomplete("off").hint("Letters, digits and . _ - @, up to 32.").required(),
        Field::select("role", "Role", role, role_choices()),
        Field::password("password", "First password", "new-password").hint("12 characters or more. They should change it."),
    ];
    let page = Page::new(visit, "Users").told(&mut fields, trouble)?;
    let roles = Role::ALL.iter().map(|role| RoleRow { name: role.name(), text: says(*role) }).collect();
    let users_word = if users.len() == 1 { "user" } else { "users" };
    page.draw("users.html", &Users { users, users_word, may_manage: visit.may(Action::ManageUsers), fields, roles })
}

fn show(visit: &Visit) -> Result<Response, Trouble> {
    draw_one(visit, visit.request.query.text("name"), None)
}

fn set_role(visit: &Visit) -> Result<Response, Trouble> {
    change(visit, |form, name| {
        let role = form.text("role").parse()?;
        user::set_role(visit.site, visit.actor()?, name, role)?;
        Ok(format!("{name} is {role} now."))
    })
}

fn set_password(visit: &Visit) -> Result<Response, Trouble> {
    change(visit, |form, name| {
        user::set_password(visit.site, visit.actor()?, name, same_twice(form)?)?;
        Ok(format!("{name} has a new password and is signed out everywhere."))
    })
}

fn set_disabled(visit: &Visit) -> Result<Response, Trouble> {
    change(visit, |form, name| {
        let disabled = form.text("disabled") == "true";
        user::set_disabled(visit.site, visit.actor()?, name, disabled)?;
        Ok(format!("{name} {}.", if disabled { "is disabled and signed out" } else { "may sign in again" }))
    })
}

fn remove(visit: &Visit) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let name = form.required("user")?;
    match user::remove(visit.site, visit.actor()?, name) {
        Ok(()) => Ok(Response::see_other("/users").flash(flash::Tone::Ok, format!("{name} is removed, with every session and key."))),
        Err(trouble) => draw_one(visit, name, Some(trouble)),
    }
}

/// One change of one user: done, or told on the user's page.
fn change(visit: &Visit, work: impl FnOnce(&Fields, &str) -> Result<String, Trouble>) -> Result<Response, Trouble> {
    let form = visit.request.form()?;
    let name = form.required("user")?;
    match work(&form, name) {
        Ok(done) => Ok(Response::see_other(&format!("/users/user?name={}", query(name))).flash(flash::Tone::Ok, done)),
        Err(trouble) => draw_one(visit, name, Some(trouble)),
    }
}

fn draw_one(visit: &Visit, name: &str, trouble: Option<Trouble>) -> Result<Response, Trouble> {
    let user = user::get(visit.site, name)?;
    let clock = page::clock(visit);
    let mut fields = [
        Field::select("role", "Role", user.role.name(), role_choices()).hint(says(user.role)),
        Field::password("password", "New password", "new-password").hint("12 characters or more."),
        Field::password("again", "New password again", "new-password"),
    ];
    let page = Page::new(visit, user.name.clone()).told(&mut fields, trouble)?;
    let [role, password, again] = fields;
    let view = OneUser {
        intro: format!("{} since {}. Password set {}.", user.role, clock.say(user.created_at), clock.say(user.password_changed_at)),
        state: state(&user),
        role_fields: vec![role],
        password_fields: vec![password, again],
        access: if user.disabled { "May not sign in. Keys and tokens do not work either." } else { "May sign in." },
        disabled: user.disabled,
        own: visit.actor()?.user == user.name,
        name: user.name,
    };
    page.draw("user.html", &view)
}
