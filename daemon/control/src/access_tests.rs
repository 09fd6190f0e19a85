//! Who gets in, who may do what, and what happens to those who try too often.

use crate::http::{Access, Method, Response, Route, Router, Visit};
use crate::role::{Action, Role, authorize};
use crate::story::{PASSWORD, Story};
use crate::{Trouble, csrf, jwt, login, session, user};

/// The whole table, written out once more by hand: a change of `Role::may` must be wanted twice.
#[test]
fn the_matrix_of_roles_and_actions() {
    use Action::{Apply, Audit, Edit, ManageUsers, Operate, RotateKeys, Update, UseOwnAccount, View, ViewUsers};
    let granted: [(Role, &[Action]); 4] = [
        (Role::Admin, &[View, UseOwnAccount, Edit, Apply, Operate, ViewUsers, ManageUsers, Audit, RotateKeys, Update]),
        (Role::Operator, &[View, UseOwnAccount, Edit, Apply, Operate]),
        (Role::Viewer, &[View, UseOwnAccount]),
        (Role::Auditor, &[View, UseOwnAccount, ViewUsers, Audit]),
    ];
    let story = Story::with_people();
    let mut cells = 0;
    for (role, actions) in granted {
        for action in Action::ALL {
            assert_eq!(authorize(&story.actor(role), action).is_ok(), actions.contains(&action), "{role} {action:?}");
            cells += 1;
        }
    }
    assert_eq!(cells, Role::ALL.len() * Action::ALL.len());
}

/// The same matrix through the router, so that no handler runs that should not.
#[test]
fn the_router_runs_no_handler_that_the_matrix_forbids() {
    let story = Story::with_people();
    for action in Action::ALL {
        let done: fn(&Visit) -> Result<Response, Trouble> = |_| Ok(Response::no_content());
        let router = Router::new([Route { method: Method::Post, path: "/api/v1/x", access: Access::May(action), handler: done }], None);
        let mut request = story.request(Method::Post, "/api/v1/x");
        assert_eq!(router.answer(&story.site, &request).status, 401);
        for role in Role::ALL {
            request.headers.insert("authorization".to_owned(), format!("Bearer {}", story.key(role)));
            let expected = if role.may(action) { 204 } else { 403 };
            assert_eq!(router.answer(&story.site, &request).status, expected, "{role} {action:?}");
        }
    }
}

#[test]
fn a_form_needs_its_token_and_our_own_origin() {
    let story = Story::with_people();
    let done: fn(&Visit) -> Result<Response, Trouble> = |_| Ok(Response::no_content());
    let router = Router::new([Route { method: Method::Post, path: "/x", access: Access::May(Action::View), handler: done }], None);
    let (mine, other) = (story.browser(Role::Viewer), story.browser(Role::Admin));
    let send = |change: &dyn Fn(&mut crate::http::Request)| {
        let mut request = story.form("/x", &mine, "");
        change(&mut request);
        router.answer(&story.site, &request).status
    };
    assert_eq!(send(&|_| {}), 204);
    assert_eq!(send(&|request| drop(request.headers.remove("origin"))), 204, "an old browser without Origin still has the token");
    assert_eq!(send(&|request| request.body.clear()), 403);
    assert_eq!(send(&|request| request.body = format!("csrf={}", csrf::token(&other)).into_bytes()), 403, "the token of another session");
    for origin in ["https://evil.example", "null", "http://box.example", "https://box.example.evil", ""] {
        assert_eq!(send(&|request| drop(request.headers.insert("origin".to_owned(), origin.to_owned()))), 403, "{origin:?}");
    }
}

#[test]
fn sessions_end_when_idle_when_old_and_when_told_to() {
    let story = Story::with_people();
    let alive = |secret: &str| story.send(&story.with_cookie(Method::Get, "/api/v1/account", secret)).status == 200;
    let idle = story.browser(Role::Viewer);
    story.later(session::IDLE / 1000 - 1);
    assert!(alive(&idle), "use keeps it alive");
    story.later(session::IDLE / 1000 - 1);
    assert!(alive(&idle));
    story.later(session::IDLE / 1000 + 1);
    assert!(!alive(&idle));

    let old = story.browser(Role::Viewer);
    for _ in 0..(session::LIFE / session::IDLE) * 2 {
        story.later(session::IDLE / 2000);
        let _ = alive(&old);
    }
    story.later(1);
    assert!(!alive(&old), "however busy, after twelve hours it ends");

    let (one, two, others) = (story.browser(Role::Viewer), story.browser(Role::Viewer), story.browser(Role::Admin));
    user::sign_out_everywhere(&story.site, &story.actor(Role::Viewer), "viewer").unwrap();
    assert!(!alive(&one) && !alive(&two) && alive(&others));
    assert!(!alive("guess") && !alive(""));
}

#[test]
fn a_disabled_user_is_out_at_once_by_every_door() {
    let story = Story::with_people();
    let admin = story.actor(Role::Admin);
    let cookie = story.browser(Role::Operator);
    let token = jwt::issue(&story.site, &story.actor(Role::Operator)).unwrap();
    story.later(1);
    let doors = |expected: u16| {
        assert_eq!(story.send(&story.with_cookie(Method::Get, "/api/v1/account", &cookie)).status, expected);
        for bearer in [token.as_str(), story.key(Role::Operator)] {
            let mut request = story.request(Method::Get, "/api/v1/account");
            request.headers.insert("authorization".to_owned(), format!("Bearer {bearer}"));
            assert_eq!(story.send(&request).status, expected);
        }
    };
    doors(200);
    user::set_disabled(&story.site, &admin, "operator", true).unwrap();
    doors(401);
    assert!(login::sign_in(&story.site, &story.request(Method::Post, "/login"), "operator", PASSWORD).is_err());
}

#[test]
fn the_last_admin_stays() {
    let story = Story::with_people();
    let admin = story.actor(Role::Admin);
    let stays = |done: Result<(), Trouble>| assert!(matches!(done, Err(Trouble::Conflict(_))), "{done:?}");
    stays(user::remove(&story.site, &admin, "admin"));
    stays(user::set_role(&story.site, &admin, "admin", Role::Viewer));
    stays(user::set_disabled(&story.site, &admin, "admin", true));
    user::set_role(&story.site, &admin, "operator", Role::Admin).unwrap();
    user::set_disabled(&story.site, &admin, "operator", true).unwrap();
    stays(user::remove(&story.site, &admin, "admin"));
    user::set_disabled(&story.site, &admin, "operator", false).unwrap();
    user::remove(&story.site, &admin, "admin").unwrap();
}

#[test]
fn guessing_gets_slower_and_does_not_tell_whether_the_user_exists() {
    let story = Story::with_people();
    let mut request = story.request(Method::Post, "/login");
    request.client.address = Some("192.0.2.9".parse().unwrap());
    let guess = |name: &str, password: &str| login::verify(&story.site, &request, name, password).map(|actor| actor.role);
    for name in ["viewer", "nobody"] {
        for _ in 0..4 {
            assert!(matches!(guess(name, "wrong"), Err(Trouble::SignIn(_))));
        }
        // The right one is no better while the wait lasts: the answer would tell.
        let Err(Trouble::TooMany { retry_after, text }) = guess(name, PASSWORD) else { panic!("{name} was not slowed") };
        assert_eq!(retry_after, 2, "{text}");
        story.later(2);
    }
    assert_eq!(guess("viewer", PASSWORD).unwrap(), Role::Viewer);
    // From another address one's own account is not locked.
    request.client.address = Some("192.0.2.10".parse().unwrap());
    let guess = |name: &str, password: &str| login::verify(&story.site, &request, name, password);
    guess("viewer", PASSWORD).unwrap();
    let failed = crate::audit::list(
        &story.site,
        &crate::audit::Filter { action: Some("login.failed".to_owned()), limit: 100, ..Default::default() },
    )
    .unwrap();
    assert_eq!(failed.len(), 8);
}

#[test]
fn an_unknown_user_takes_as_long_as_a_known_one() {
    let story = Story::with_people();
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..8 {
        for (which, name) in ["viewer", "nobody"].into_iter().enumerate() {
            let mut request = story.request(Method::Post, "/login");
            request.client.address = Some(std::net::IpAddr::from([198, 51, 100, round * 2 + which as u8]));
            let begun = std::time::Instant::now();
            let _ = login::verify(&story.site, &request, name, "wrong");
            took[which].push(begun.elapsed().as_micros());
            story.later(60);
        }
    }
    let [known, unknown] = took.map(|mut all| {
        all.sort();
        all[all.len() / 2]
    });
    assert!(known < unknown * 2 && unknown < known * 2, "known {known} µs, unknown {unknown} µs");
}

#[test]
fn tokens_are_good_for_their_time_and_rotation_interrupts_nobody() {
    let story = Story::with_people();
    let admin = story.actor(Role::Admin);
    let good = |token: &str| {
        let mut request = story.request(Method::Get, "/api/v1/account");
        request.headers.insert("authorization".to_owned(), format!("Bearer {token}"));
        story.send(&request).status == 200
    };
    let first = jwt::issue(&story.site, &admin).unwrap();
    story.later(60);
    jwt::rotate(&story.site, &admin).unwrap();
    story.later(1);
    let second = jwt::issue(&story.site, &admin).unwrap();
    assert!(good(&first) && good(&second), "the old key still verifies");
    story.later(jwt::LIFE - 62);
    assert!(good(&first));
    story.later(2);
    assert!(!good(&first) && good(&second));
    story.later(60);
    jwt::rotate(&story.site, &admin).unwrap();
    jwt::rotate(&story.site, &admin).unwrap();
    assert!(jwt::keys(&story.site).unwrap().len() <= 3, "keys that nothing can need are gone");
}

#[test]
fn forged_tokens_are_refused() {
    let story = Story::with_people();
    let token = jwt::issue(&story.site, &story.actor(Role::Viewer)).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |json: &str| crate::secret::base64(json.as_bytes());
    let header: serde_json::Value = serde_json::from_slice(&crate::secret::from_base64(parts[0]).unwrap()).unwrap();
    let claims = String::from_utf8(crate::secret::from_base64(parts[1]).unwrap()).unwrap();
    let none = header.to_string().replace("HS256", "none");
    let forged = [
        format!("{}.{}.", encode(&none), parts[1]),
        format!("{}.{}.{}", encode(&none), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], encode(&claims.replace("viewer", "admin")), parts[2]),
        format!("{}.{}.{}", encode(&header.to_string().replace(header["kid"].as_str().unwrap(), "0000")), parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        token[..token.len() - 1].to_owned(),
        "..".to_owned(),
        String::new(),
    ];
    for forged in forged {
        let mut request = story.request(Method::Get, "/api/v1/account");
        request.headers.insert("authorization".to_owned(), format!("Bearer {forged}"));
        assert_eq!(story.send(&request).status, 401, "{forged}");
    }
}

#[test]
fn a_key_never_does_more_than_its_owner() {
    let story = Story::with_people();
    let create = |owner: Role, role: Role| crate::api_key::create(&story.site, &story.actor(owner), "key", role, Some(1));
    for (owner, role, granted) in [
        (Role::Admin, Role::Auditor, true),
        (Role::Operator, Role::Viewer, true),
        (Role::Operator, Role::Auditor, false),
        (Role::Auditor, Role::Operator, false),
        (Role::Viewer, Role::Admin, false),
    ] {
        assert_eq!(create(owner, role).is_ok(), granted, "{owner} makes a key for {role}");
    }
    let (_, key) = create(Role::Operator, Role::Operator).unwrap();
    let status = || {
        let mut request = story.request(Method::Get, "/api/v1/account");
        request.headers.insert("authorization".to_owned(), format!("Bearer {key}"));
        story.send(&request).status
    };
    assert_eq!(status(), 200);
    user::set_role(&story.site, &story.actor(Role::Admin), "operator", Role::Viewer).unwrap();
    assert_eq!(status(), 401, "the owner lost the role");
    user::set_role(&story.site, &story.actor(Role::Admin), "operator", Role::Operator).unwrap();
    story.later(24 * 60 * 60);
    assert_eq!(status(), 401, "a day is over");
}

#[test]
fn a_hundred_requests_a_minute_and_then_429_with_retry_after() {
    let story = Story::with_people();
    let mut request = story.request(Method::Get, "/api/v1/openapi.json");
    request.client.address = Some("192.0.2.50".parse().unwrap());
    for n in 0..100 {
        assert_eq!(story.send(&request).status, 200, "request {n}");
    }
    let refused = story.send(&request);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let mut style = story.request(Method::Get, "/assets/style.css");
    style.client.address = request.client.address;
    assert_ne!(story.send(&style).status, 429, "what a page fetches by itself is not counted");
    request.client.address = Some("192.0.2.51".parse().unwrap());
    assert_eq!(story.send(&request).status, 200, "others are not slowed");
}

#[test]
fn the_running_policy_says_how_many_requests_a_minute() {
    let story = Story::with_people();
    let mut sources = crate::story::policy("busy");
    let text = sources.0.get_mut("box.yaml").unwrap();
    *text = text.replace("hostname: busy\n", "hostname: busy\n  requestsPerMinute: 10\n");
    story.box_.lock().unwrap().install(sources, "console");
    story.poll();
    let mut request = story.request(Method::Get, "/api/v1/openapi.json");
    request.client.address = Some("192.0.2.52".parse().unwrap());
    let answers: Vec<u16> = (0..11).map(|_| story.send(&request).status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 10);
}

#[test]
fn a_database_that_fails_is_said_and_nobody_panics() {
    let story = Story::with_people();
    rusqlite::Connection::open(story.folder.path().join("config.v1.db"))
        .unwrap()
        .execute_batch("ALTER TABLE users RENAME TO lost")
        .unwrap();
    let (status, problem) = story.api(Role::Admin, Method::Get, "/users", None);
    assert_eq!((status, problem["type"].as_str()), (503, Some("urn:portcullis:problem:storage")));
    assert!(problem["detail"].as_str().unwrap().contains("the box keeps running"));
    assert_eq!(story.send(&story.request(Method::Get, "/healthz")).status, 200);
    assert_eq!(story.send(&story.request(Method::Get, "/readyz")).status, 503);
}
