//! Every page, drawn for every role and in every state of the box.

mod carried;
mod seen;

use policy::Sources;

use crate::http::{Access, Method, Response};
use crate::role::{Action, Role};
use crate::story::{self, Story};
use crate::{candidate, pages};

fn text(response: &Response) -> String {
    String::from_utf8(response.bytes().to_vec()).expect("pages are UTF-8")
}

fn get(story: &Story, role: Role, target: &str) -> Response {
    story.send(&story.with_cookie(Method::Get, target, &story.browser(role)))
}

/// Addresses that need a question to answer, with one.
fn asked(path: &str) -> String {
    match path {
        "/policies/file" => "/policies/file?name=carried.yaml".to_owned(),
        "/mappings/mapping" => "/mappings/mapping?name=anna".to_owned(),
        "/upstreams/group" => "/upstreams/group?name=europe".to_owned(),
        "/upstreams/upstream" => "/upstreams/upstream?name=berlin".to_owned(),
        "/alerts/alert" => "/alerts/alert?id=1".to_owned(),
        "/seen/event" => "/seen/event?id=4294967297".to_owned(),
        "/users/user" => "/users/user?name=viewer".to_owned(),
        "/history/revision" => "/history/revision?id=1".to_owned(),
        "/history/diff" => "/history/diff?from=r1&to=candidate".to_owned(),
        path => path.to_owned(),
    }
}

fn running(story: &Story) {
    story.box_.lock().unwrap().install(story::policy("gw"), "console");
    story.poll();
}

// The page of updates is drawn in `updater_tests`, where somebody answers.
#[test]
fn every_page_is_drawn_for_those_who_may_and_refused_to_all_others() {
    let story = Story::with_people();
    story.carrying();
    story.watching(seen::event(0));
    for route in pages::routes()
        .filter(|route| route.method == Method::Get && !matches!(route.path, "/setup" | "/login" | "/events" | "/system/update"))
    {
        let Access::May(action) = route.access else { panic!("{} is open to anyone", route.path) };
        for role in Role::ALL {
            let response = get(&story, role, &asked(route.path));
            let wanted = if role.may(action) { 200 } else { 403 };
            assert_eq!(response.status, wanted, "{} as {role}: {}", route.path, text(&response));
            let html = response.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
            if html {
                sound(&text(&response), route.path);
            }
            if wanted == 403 {
                assert!(text(&response).contains(&format!("You are signed in as {role}, {role}.")), "{}", text(&response));
            }
        }
    }
}

/// What holds of every page.
fn sound(html: &str, path: &str) {
    assert!(html.trim_start().starts_with("<!doctype html>"), "{path}: {}", &html[..html.len().min(80)]);
    assert_eq!(html.matches("<h1").count(), 1, "{path} has one heading of the first order");
    assert_eq!(html.matches("<main").count(), 1, "{path} has one main landmark");
    assert!(html.len() < 100_000, "{path} weighs {} bytes", html.len());
    for forbidden in [" style=\"", "<style", " onclick=", "javascript:"] {
        assert!(!html.contains(forbidden), "{path} has {forbidden}, which the CSP forbids");
    }
    let forms = html.matches("<form method=\"post\"").count();
    assert_eq!(html.matches("name=\"csrf\" value=\"").count(), forms, "{path}: every form carries its token");
    assert!(!html.contains("name=\"csrf\" value=\"\""), "{path} has a form without a token");
}

/// Pages that say something also when nobody answers.
const STILL_THERE: [&str; 18] = [
    "/",
    "/firewall",
    "/firewall/kernel",
    "/mappings",
    "/mappings/new",
    "/upstreams",
    "/upstreams/new",
    "/upstreams/group/new",
    "/connections",
    "/alerts",
    "/seen",
    "/policies",
    "/policies/preview",
    "/explain",
    "/history",
    "/drift",
    "/system",
    "/trial",
];

#[test]
fn pages_tell_a_dead_applier_and_a_box_without_policy_instead_of_failing() {
    let story = Story::with_people();
    story.poll();
    for path in STILL_THERE {
        let response = get(&story, Role::Admin, path);
        assert_eq!(response.status, 200, "{path}: {}", text(&response));
        sound(&text(&response), path);
    }
    assert!(text(&get(&story, Role::Admin, "/")).contains("Locked down"));

    running(&story);
    story.box_.lock().unwrap().dead = true;
    story.poll();
    for path in STILL_THERE {
        let response = get(&story, Role::Admin, path);
        assert_eq!(response.status, 200, "{path}: {}", text(&response));
        sound(&text(&response), path);
    }
    assert!(text(&get(&story, Role::Admin, "/")).contains("The applier does not answer"));
    let refused = story.send(&story.form("/drift", &story.browser(Role::Admin), ""));
    assert_eq!(refused.status, 503);
    assert!(text(&refused).contains("What was installed last stays in force"), "{}", text(&refused));
}

#[test]
fn hostile_text_never_becomes_markup() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    let story = Story::with_people();
    running(&story);
    let admin = story.actor(Role::Admin);
    let policy = format!("{}\n# {HOSTILE}\nkind: \"{}\"\n", story::policy("gw").0["box.yaml"], HOSTILE.replace('"', "\\\""));
    candidate::save(&story.site, &admin, 0, Sources::single("box.yaml", policy)).expect("saved");
    story.box_.lock().unwrap().fail_next = Some(HOSTILE.to_owned());

    let secret = story.browser(Role::Admin);
    let encoded = pages::ui::query(HOSTILE);
    let mut answers: Vec<(String, String)> = pages::routes()
        .filter(|route| {
            route.method == Method::Get && !["/events", "/policies/download", "/audit/export", "/mappings/export"].contains(&route.path)
        })
        .flat_map(|route| {
            let own = asked(route.path);
            let sign = if own.contains('?') { '&' } else { '?' };
            let names = [
                "name", "q", "from", "to", "source", "port", "next", "topic", "start", "file", "user", "mapping", "client", "state",
                "clients", "via", "mac", "members", "address",
            ];
            let odd: Vec<String> = names
                .iter()
                .map(|name| format!("{}{sign}{name}={encoded}", if own.contains(&format!("{name}=")) { route.path } else { &own }))
                .collect();
            [vec![own.clone()], odd].concat()
        })
        .map(|target| (target.replace("&&", "&"), story.with_cookie(Method::Get, &target, &secret)))
        .map(|(target, request)| (target, text(&story.send(&request))))
        .collect();
    for (target, fields) in [
        ("/users", format!("name={encoded}&role=viewer&password=long-enough-password")),
        ("/keys", format!("name={encoded}&role=viewer")),
        ("/policies/new", format!("file={encoded}&start=empty")),
        ("/policies/file", format!("file={encoded}&text={encoded}&base=1")),
        ("/theme", format!("theme={encoded}&back={encoded}")),
        ("/explain", String::new()),
        ("/mappings/new", format!("name={encoded}&clients={encoded}&via={encoded}")),
        ("/mappings/new", format!("name=x&clients={encoded}&description={encoded}&via=upstream+{encoded}&days={encoded}")),
        ("/mappings/mapping", format!("mapping={encoded}")),
        ("/mappings/import", format!("file={encoded}")),
        ("/mappings/test", format!("mapping={encoded}")),
        ("/upstreams/new", format!("name={encoded}&address={encoded}&port={encoded}")),
        (
            "/upstreams/new",
            format!(
                "name=x&address={encoded}&port={encoded}&username={encoded}&serverName={encoded}&authority={encoded}&probe={encoded}&expectExit={encoded}&type={encoded}&kept={encoded}"
            ),
        ),
        ("/upstreams/group/new", format!("name=x&members={encoded}&members={encoded}&failAfter={encoded}&strategy={encoded}")),
        ("/upstreams/remove", format!("upstream={encoded}")),
        ("/upstreams/group/remove", format!("group={encoded}")),
        ("/upstreams/test", format!("upstream={encoded}")),
        ("/upstreams/secret", format!("name={encoded}&value=x")),
        ("/upstreams/secret/remove", format!("name={encoded}")),
        ("/connections/close", format!("all={encoded}&mapping={encoded}")),
    ] {
        answers.push((format!("POST {target}"), text(&story.send(&story.form(target, &secret, &fields)))));
    }
    answers.push(("GET /keys after".to_owned(), text(&get(&story, Role::Admin, "/keys"))));
    for (target, html) in answers {
        assert!(!html.contains("<script>alert") && !html.contains("<img src=x"), "{target} lets markup through");
        assert!(!html.contains("could not be drawn"), "{target}: {html}");
    }
}

#[test]
fn control_characters_in_a_policy_are_shown_as_such() {
    let story = Story::with_people();
    let admin = story.actor(Role::Admin);
    let sources = Sources::single("box.yaml", "kind: \u{202e}evil\u{1b}[2J\n");
    candidate::save(&story.site, &admin, 0, sources).expect("saved");
    for path in ["/policies", "/policies/preview", "/history/diff?from=candidate&to=candidate"] {
        let html = text(&get(&story, Role::Admin, path));
        assert!(!html.contains('\u{1b}') && !html.contains('\u{202e}'), "{path}");
    }
}

#[test]
fn a_form_that_was_wrong_keeps_what_was_typed_and_says_it_at_the_field() {
    let story = Story::with_people();
    let secret = story.browser(Role::Admin);
    let response = story.send(&story.form("/users", &secret, "name=not+a+name&role=operator&password=long-enough-password"));
    let html = text(&response);
    assert_eq!(response.status, 422);
    assert!(html.contains("value=\"not a name\"") && html.contains("aria-invalid=\"true\"") && html.contains("id=\"e-name\""), "{html}");
    assert!(html.contains("<option value=\"operator\" selected>"));
    assert!(!html.contains("long-enough-password"), "a password never comes back");
}

#[test]
fn a_stranger_is_led_to_the_login_and_then_to_where_they_wanted() {
    let story = Story::with_people();
    let response = story.send(&story.request(Method::Get, "/history"));
    assert_eq!((response.status, response.header("location")), (303, Some("/login?next=%2Fhistory")));
    let login = story.send(&story.request(Method::Get, "/login?next=%2Fhistory"));
    assert!(text(&login).contains("name=\"next\" value=\"&#x2f;history\""), "{}", text(&login));
    assert!(login.header("set-cookie").is_some_and(|cookie| cookie.starts_with("__Host-portcullis-visit=")));
    sound(&text(&login), "/login");
}

#[test]
fn the_whole_way_from_an_edit_to_a_confirmed_generation() {
    let story = Story::with_people();
    running(&story);
    let secret = story.browser(Role::Operator);
    let changed = story::policy("gw-new").0["box.yaml"].clone();
    let saved = story.send(&story.form(
        "/policies/file",
        &secret,
        &format!("file=box.yaml&base=0&then=preview&text={}", pages::ui::query(&changed)),
    ));
    assert_eq!(saved.header("location"), Some("/policies/preview"), "{}", text(&saved));
    let preview = text(&story.send(&story.with_cookie(Method::Get, "/policies/preview", &secret)));
    let digest = preview.split("name=\"digest\" value=\"").nth(1).expect("a digest").split('"').next().unwrap_or_default().to_owned();
    assert!(preview.contains("<span class=\"add\">+  hostname: gw-new</span>"), "{preview}");

    let applied = story.send(&story.form("/policies/apply", &secret, &format!("digest={digest}&within=&message=test")));
    assert_eq!(applied.header("location"), Some("/trial"), "{}", text(&applied));
    let trial = text(&story.send(&story.with_cookie(Method::Get, "/trial", &secret)));
    assert!(trial.contains("Generation 2 is on trial") && trial.contains("data-left="), "{trial}");

    // The same connection: first the browser is sent round by itself, then the person is told.
    let mut confirm = story.form("/trial/confirm", &secret, "generation=2");
    confirm.client.connected_at = Some(1);
    let again = story.send(&confirm);
    assert_eq!((again.status, again.header("location"), again.header("connection")), (307, Some("/trial/confirm?again=1"), Some("close")));
    let mut still = story.form("/trial/confirm?again=8", &secret, "generation=2");
    still.client.connected_at = Some(1);
    let told = story.send(&still);
    assert_eq!(told.status, 409);
    assert!(text(&told).contains("This is still the old connection"));

    story.later(5);
    let kept = story.send(&story.form("/trial/confirm", &secret, "generation=2"));
    assert_eq!((kept.status, kept.header("location")), (303, Some("/")), "{}", text(&kept));
    assert!(text(&story.send(&story.with_cookie(Method::Get, "/", &secret))).contains("Generation 2 holds the gate"));
}

#[test]
fn someone_else_having_saved_meanwhile_loses_nobodys_text() {
    let story = Story::with_people();
    running(&story);
    let secret = story.browser(Role::Operator);
    let save = |text: &str| story.send(&story.form("/policies/file", &secret, &format!("file=box.yaml&base=0&text={text}")));
    assert_eq!(save("mine").status, 303);
    let second = save("theirs");
    assert_eq!(second.status, 409);
    let html = text(&second);
    assert!(
        html.contains("theirs") && html.contains("name=\"base\" value=\"1\"") && html.contains("changed the candidate meanwhile"),
        "{html}"
    );
}

#[test]
fn every_action_of_the_navigation_exists() {
    let known: Vec<&str> = pages::routes().map(|route| route.path).collect();
    let all = pages::shell::Sees { audit: true, users: true };
    for item in pages::shell::nav("/", all, None, true).into_iter().flatten() {
        assert!(known.contains(&item.href), "{} leads nowhere", item.href);
    }
    assert!(Role::Viewer.may(Action::View));
}
