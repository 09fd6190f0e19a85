//! Mapped clients over the API: secrets, flows, and what is said when nobody answers.

use serde_json::{Value, json};

use super::super::operations;
use super::document::assert_valid;
use crate::http::Method;
use crate::role::Role;
use crate::story::Story;

#[test]
fn a_secret_goes_in_and_never_comes_out() {
    const SECRET: &str = "hush-hush-4711";
    let story = Story::with_people();
    story.carrying();
    let (status, _) = story.api(Role::Viewer, Method::Put, "/secrets/berlin-password", Some(json!({ "value": SECRET })));
    assert_eq!(status, 403, "a viewer sets no secret");
    assert_eq!(story.api(Role::Operator, Method::Get, "/secrets", None).1, json!({ "set": [], "missing": ["berlin-password"] }));
    let (status, _) = story.api(Role::Operator, Method::Put, "/secrets/berlin-password", Some(json!({ "value": SECRET })));
    assert_eq!(status, 204);
    assert_eq!(story.box_.lock().unwrap().secrets["berlin-password"], SECRET);
    assert_eq!(story.api(Role::Viewer, Method::Get, "/secrets", None).1, json!({ "set": ["berlin-password"], "missing": [] }));
    // Everything that can be read, and the database with the audit log.
    for operation in operations().filter(|operation| operation.method == Method::Get && !operation.path.contains('{')) {
        assert!(!story.api(Role::Admin, Method::Get, operation.path, None).1.to_string().contains(SECRET), "{}", operation.path);
    }
    for file in ["config.v1.db", "config.v1.db-wal"] {
        let bytes = std::fs::read(story.folder.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{file} holds the secret");
    }
    for (value, name) in [("", "berlin-password"), ("two\nlines", "berlin-password"), ("x", "Not A Name")] {
        let name = crate::pages::ui::query(name);
        let (status, problem) = story.api(Role::Operator, Method::Put, &format!("/secrets/{name}"), Some(json!({ "value": value })));
        assert_eq!(status, 422, "{value:?} for {name}: {problem}");
    }
    assert_eq!(story.api(Role::Operator, Method::Delete, "/secrets/berlin-password", None).0, 204);
    assert_eq!(story.api(Role::Operator, Method::Delete, "/secrets/berlin-password", None).0, 404);
}

#[test]
fn flows_are_closed_one_by_one_or_by_client_and_it_is_written_down() {
    let story = Story::with_people();
    story.carrying();
    let close = |role, body| story.api(role, Method::Post, "/proxy/close", Some(body));
    assert_eq!(close(Role::Viewer, json!({ "flow": 7 })).0, 403);
    assert_eq!(close(Role::Operator, json!({})).0, 422);
    assert_eq!(close(Role::Operator, json!({ "flow": 7, "client": "192.168.2.10" })).0, 422, "one of them");
    assert_eq!(close(Role::Operator, json!({ "client": "fd00:2::10" })).1, json!({ "flows": 1 }));
    assert_eq!(close(Role::Operator, json!({ "flow": 7 })).1, json!({ "flows": 1 }));
    assert_eq!(close(Role::Operator, json!({ "flow": 7 })).1, json!({ "flows": 0 }));
    let (status, refused) = story.api(Role::Operator, Method::Post, "/proxy/probe", Some(json!({ "upstreams": ["nowhere"] })));
    assert_eq!((status, refused["detail"].as_str()), (409, Some("there is no upstream nowhere")));
    story.api(Role::Operator, Method::Post, "/proxy/probe", Some(json!({})));
    let entries = story.api(Role::Admin, Method::Get, "/audit?action=proxy.", None).1;
    let told: Vec<String> =
        entries.as_array().unwrap().iter().map(|entry| format!("{} {}: {}", entry["action"], entry["subject"], entry["detail"])).collect();
    assert_eq!(told[0], r#""proxy.probe" "all upstreams": "1 of 2 carry""#, "{told:#?}");
    assert_eq!(told.last().unwrap(), r#""proxy.close" "client fd00:2::10": "1 flow(s) ended""#);
}

#[test]
fn a_forwarder_or_an_applier_that_is_gone_is_said_and_no_figure_is_made_up() {
    let story = Story::with_people();
    story.carrying();
    story.forwarder.lock().unwrap().status = None;
    let (status, mappings) = story.api(Role::Viewer, Method::Get, "/proxy/mappings", None);
    assert_eq!((status, &mappings[0]["name"], &mappings[0]["flows"]), (200, &json!("anna"), &Value::Null));
    assert_valid(&mappings, "Mappings", "mappings without a forwarder");
    let (status, problem) = story.api(Role::Viewer, Method::Get, "/proxy/flows", None);
    assert_eq!((status, problem["type"].as_str()), (503, Some("urn:portcullis:problem:forwarder-away")));
    story.box_.lock().unwrap().dead = true;
    story.later(2);
    let (_, proxy) = story.api(Role::Viewer, Method::Get, "/proxy", None);
    assert_eq!(proxy, json!({ "connected": null, "permitted": null, "blocked": null, "forwarder": null }));
    assert_eq!(story.api(Role::Viewer, Method::Get, "/proxy/mappings", None).0, 503);
}

#[test]
fn metrics_are_for_everyone_with_a_key_and_for_nobody_else() {
    let story = Story::with_people();
    story.carrying();
    let mut request = story.request(Method::Get, "/metrics");
    assert_ne!(story.send(&request).status, 200);
    request.headers.insert("authorization".to_owned(), format!("Bearer {}", story.key(Role::Viewer)));
    let response = story.send(&request);
    assert_eq!((response.status, response.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let text = String::from_utf8(response.bytes().to_vec()).unwrap();
    assert!(text.contains("portcullis_client_blocked{mapping=\"tv\",reason=\"daily-quota\"} 1\n"), "{text}");
}
