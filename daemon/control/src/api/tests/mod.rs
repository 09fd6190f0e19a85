//! The API as a program meets it: every documented operation is asked, and what comes back has the documented shape.

mod document;
mod proxy;

use std::collections::BTreeSet;

use document::assert_valid;
use serde_json::{Value, json};

use super::{Answer, Operation, openapi, operations, routes};
use crate::http::{Access, Method};
use crate::pages::sample;
use crate::role::Role;
use crate::story::{self, FakeForwarder, PASSWORD, Story};

const ZONE: &str = "apiVersion: portcullis/v1\nkind: Zone\nmetadata: { name: lab }\nspec: {}\n";

#[test]
fn every_route_is_in_the_document_and_nothing_else_is() {
    let document = openapi::document();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), format!("/api/v1{path}")))
        })
        .collect();
    let served: BTreeSet<(String, String)> = routes().map(|route| (route.method.name().to_owned(), route.path.to_owned())).collect();
    assert_eq!(documented, served);
    assert_eq!(operations().count(), served.len(), "an operation stands twice in the table");
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = openapi::document();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_operation_answers_as_documented() {
    let story = Story::with_people();
    story.box_.lock().unwrap().install(story::policy("first"), "console");
    story.poll();
    let digest = policy::judge(&story::policy("second")).unwrap().digest.0;
    // In this order one leads to the next.
    let calls: Vec<(&str, &str, Option<Value>)> = vec![
        ("GET", "/openapi.json", None),
        ("POST", "/tokens", Some(json!({ "user": "admin", "password": PASSWORD }))),
        ("POST", "/tokens/renew", None),
        ("GET", "/account", None),
        ("GET", "/account/sessions", None),
        ("GET", "/account/keys", None),
        ("POST", "/account/keys", Some(json!({ "name": "backup", "role": "viewer", "days": 30 }))),
        ("DELETE", "/account/keys/5", None),
        ("GET", "/users", None),
        ("POST", "/users", Some(json!({ "name": "ada", "role": "viewer", "password": "analytical engine 1843" }))),
        ("GET", "/users/ada", None),
        ("PATCH", "/users/ada", Some(json!({ "role": "operator", "disabled": true }))),
        ("POST", "/users/ada/sign-out", None),
        ("GET", "/users/ada/sessions", None),
        ("GET", "/users/viewer/keys", None),
        ("DELETE", "/users/viewer/keys/3", None),
        ("DELETE", "/users/ada", None),
        ("GET", "/signing-keys", None),
        ("POST", "/signing-keys", None),
        ("GET", "/status", None),
        ("GET", "/counters", None),
        ("GET", "/kernel-ruleset", None),
        ("POST", "/drift", None),
        ("GET", "/running", None),
        ("GET", "/plan?of=running", None),
        ("POST", "/check", Some(json!({ "sources": story::policy("x") }))),
        ("POST", "/diff", Some(json!({ "from": story::policy("x"), "to": story::policy("y") }))),
        ("GET", "/starting-points", None),
        ("GET", "/schema", None),
        ("POST", "/explain", Some(json!({ "of": "running", "from": "mgmt:192.168.77.9", "to": "box", "service": "tcp/443" }))),
        ("GET", "/proxy", None),
        ("GET", "/proxy/mappings", None),
        ("GET", "/proxy/upstreams", None),
        ("GET", "/proxy/flows?mapping=anna&client=192.168.2.10&limit=5", None),
        ("POST", "/proxy/close", Some(json!({ "flow": 7 }))),
        ("POST", "/proxy/probe", Some(json!({ "upstreams": ["berlin"] }))),
        ("PUT", "/secrets/berlin-password", Some(json!({ "value": "hush" }))),
        ("GET", "/secrets", None),
        ("DELETE", "/secrets/berlin-password", None),
        ("GET", "/mappings.csv?of=running", None),
        ("GET", "/candidate", None),
        ("PUT", "/candidate", Some(json!({ "version": 0, "sources": { "junk.yaml": "kind: [" } }))),
        ("POST", "/candidate/take", Some(json!({ "version": 1, "startingPoint": "home" }))),
        ("DELETE", "/candidate", None),
        ("PUT", "/candidate/files/box.yaml", Some(json!({ "version": 3, "text": story::policy("second").0["box.yaml"] }))),
        ("GET", "/candidate/resources", None),
        ("POST", "/candidate/resources", Some(json!({ "version": 4, "text": ZONE }))),
        ("GET", "/candidate/resources/Zone/lab", None),
        ("PUT", "/candidate/resources/Zone/lab", Some(json!({ "version": 5, "text": ZONE }))),
        ("DELETE", "/candidate/resources/Zone/lab?version=6", None),
        ("PUT", "/candidate/files/more.yaml", Some(json!({ "version": 7, "text": "" }))),
        ("DELETE", "/candidate/files/more.yaml", None),
        ("POST", "/candidate/mappings", Some(json!({ "version": 9, "csv": "name,clients,upstream\n" }))),
        ("GET", "/candidate/preview", None),
        ("POST", "/candidate/apply", Some(json!({ "digest": digest, "message": "rename", "confirmWithin": 30 }))),
        ("POST", "/trial/confirm", Some(json!({ "generation": 2 }))),
        ("POST", "/generations/1/go-back", None),
        ("POST", "/trial/go-back", None),
        ("GET", "/revisions", None),
        ("GET", "/revisions/1", None),
        ("POST", "/revisions/4/dismiss", None),
        ("GET", "/observer", None),
        ("GET", "/alerts", None),
        ("POST", "/alerts/acknowledge", Some(json!({ "alerts": [1] }))),
        ("POST", "/suppressions", Some(json!({ "rule": "port-scan", "until": 4_000_000_000_000_000_i64, "reason": "our own scanner" }))),
        ("GET", "/suppressions", None),
        ("GET", "/events?address=203.0.113.7", None),
        ("GET", "/event?id=4294967297", None),
        ("GET", "/audit", None),
        ("GET", "/audit/verify", None),
        ("GET", "/audit/export", None),
        ("POST", "/account/sign-out", None),
        ("POST", "/account/password", Some(json!({ "old": PASSWORD, "password": "another horse and battery" }))),
    ];
    let mut asked = BTreeSet::from(["POST /setup", "DELETE /account/sessions/{id}"]);
    // These are asked in `updater_tests`, where somebody answers.
    asked.extend(operations().map(label).filter(|label| label.contains(" /system/")));
    for (method, target, body) in calls {
        let method = Method::from_name(method).unwrap();
        let Some(operation) = find(method, target) else { panic!("{target} is not in the table") };
        asked.insert(label(operation));
        if target == "/trial/confirm" {
            story.later(1);
        }
        if target == "/proxy" {
            story.box_.lock().unwrap().proxy = Some(sample::proxy_status());
            *story.forwarder.lock().unwrap() = FakeForwarder { status: Some(sample::forwarder_status()), flows: sample::flows() };
        }
        if target == "/observer" {
            let line = r#"{"timestamp":"2026-11-21T00:00:00.000000+0000","event_type":"alert","src_ip":"203.0.113.7","alert":{"signature_id":7,"signature":"seven","severity":1}}"#;
            story.watching(format!("{line}\n"));
        }
        if target == "/revisions/4/dismiss" {
            waiting_revision(&story);
        }
        let (status, answer) = story.api(Role::Admin, method, target, body);
        match operation.answer {
            Answer::File(_) => assert_eq!(status, 200, "{method:?} {target}: {answer}"),
            Answer::Nothing => assert_eq!(status, 204, "{method:?} {target}: {answer}"),
            Answer::Json(expected, schema) => {
                assert_eq!(status, expected, "{method:?} {target}: {answer:#}");
                assert_valid(&answer, schema, &format!("{method:?} {target}"));
            }
        }
    }
    let all: BTreeSet<&str> = operations().map(label).collect();
    assert_eq!(asked, all, "this test asks every operation");
}

#[test]
fn the_first_admin_is_made_over_the_api_and_sessions_can_be_ended() {
    let story = Story::new();
    crate::setup::offer(&story.site).unwrap();
    let code = std::fs::read_to_string(story.folder.path().join("setup-code")).unwrap();
    let send = |path: &str, body: Value| {
        let mut request = story.request(Method::Post, &format!("/api/v1{path}"));
        request.headers.insert("content-type".to_owned(), "application/json".to_owned());
        request.body = body.to_string().into_bytes();
        story::answer(&story.send(&request))
    };
    let body = |code: &str| json!({ "code": code, "user": "grace", "password": "nanoseconds of wire" });
    let (status, wrong) = send("/setup", body("AAAAA-AAAAA-AAAAA"));
    assert_eq!((status, &wrong["errors"][0]["field"]), (422, &json!("code")));
    assert_valid(&wrong, "Problem", "a wrong code");
    assert_eq!(send("/setup", body(&code.trim().to_lowercase().replace('-', " "))).0, 204);
    assert_eq!(send("/setup", body(code.trim())).0, 404, "the code works once");
    assert!(!story.folder.path().join("setup-code").exists());

    let secret = crate::login::sign_in(&story.site, &story.request(Method::Post, "/login"), "grace", "nanoseconds of wire").unwrap();
    let sessions = story.with_cookie(Method::Get, "/api/v1/account/sessions", &secret);
    let (_, list) = story::answer(&story.send(&sessions));
    assert_valid(&list, "Sessions", "sessions");
    let mut end = story.with_cookie(Method::Delete, &format!("/api/v1/account/sessions/{}", list[0]["id"]), &secret);
    assert_eq!(story.send(&end).status, 403, "a change by cookie needs the token");
    end.headers.insert("x-csrf-token".to_owned(), crate::csrf::token(&secret));
    assert_eq!(story.send(&end).status, 204);
    assert_eq!(story.send(&sessions).status, 401, "the session is gone");
}

#[test]
fn every_operation_asks_who_you_are_and_every_role_gets_exactly_its_own() {
    let story = Story::with_people();
    for operation in operations() {
        let target: String =
            operation.path.split('/').map(|part| if part.starts_with('{') { "0" } else { part }).collect::<Vec<_>>().join("/");
        let Access::May(action) = operation.access else { continue };
        let anonymous = story.request(operation.method, &format!("/api/v1{target}"));
        assert_eq!(story.send(&anonymous).status, 401, "{} without signing in", label(operation));
        for role in Role::ALL {
            // Without a body nothing is changed, but who may has been decided before.
            let harmless = operation.body.is_some() || operation.method == Method::Get || operation.path.contains('{');
            if role.may(action) && !harmless {
                continue;
            }
            let (status, answer) = story.api(role, operation.method, &target, None);
            assert_eq!(status == 403, !role.may(action), "{} as {role}: {status} {answer}", label(operation));
        }
    }
}

#[test]
fn problems_name_the_field_and_the_remedy() {
    let story = Story::with_people();
    let cases = [
        (Method::Post, "/users", json!({ "name": "a b", "role": "viewer", "password": PASSWORD }), "name"),
        (Method::Post, "/users", json!({ "name": "ada", "role": "viewer", "password": "short" }), "password"),
        (Method::Post, "/users", json!({ "name": "ada", "role": "king", "password": PASSWORD }), "body"),
        (Method::Post, "/account/keys", json!({ "name": "x", "role": "viewer", "days": 0 }), "days"),
        (Method::Put, "/candidate/files/..%2fpasswd", json!({ "version": 0, "text": "" }), ""),
        (Method::Put, "/candidate/files/passwd", json!({ "version": 0, "text": "" }), "file"),
    ];
    for (method, path, body, field) in cases {
        if field.is_empty() {
            assert!(
                crate::http::Request::new(method, &format!("/api/v1{path}"), Default::default()).is_none()
                    || story.api(Role::Admin, method, path, Some(body)).0 >= 400
            );
            continue;
        }
        let (status, problem) = story.api(Role::Admin, method, path, Some(body));
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{path}: {problem}");
        assert_valid(&problem, "Problem", path);
    }
    let (status, stale) = story.api(Role::Admin, Method::Put, "/candidate", Some(json!({ "version": 77, "sources": {} })));
    assert_eq!(status, 409, "{stale}");
}

fn waiting_revision(story: &Story) {
    use crate::revision::{self, FoundIn, New, Outcome};
    let sources = story::policy("waiting");
    let new = New {
        author: "hot-reload",
        origin: FoundIn::HotReload,
        message: "",
        sources: &sources,
        digest: None,
        generation: None,
        outcome: Outcome::Waiting,
    };
    let id = story.site.change(&crate::Actor::the_box("hot-reload"), |ledger| revision::add(ledger, &new)).unwrap();
    assert_eq!(id, 4);
}

fn find(method: Method, target: &str) -> Option<&'static Operation> {
    let path = target.split('?').next()?;
    let fits = |pattern: &str| {
        pattern.split('/').count() == path.split('/').count()
            && pattern.split('/').zip(path.split('/')).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
    };
    operations().find(|operation| operation.method == method && fits(operation.path))
}

fn label(operation: &Operation) -> &'static str {
    format!("{} {}", operation.method.name(), operation.path).leak()
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            into.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect_references(value, into));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, into)),
        _ => {}
    }
}
