//! Alerts and events, with the observer's own store behind its own socket.

use super::{get, sound, text};
use crate::http::{Method, Response};
use crate::role::Role;
use crate::story::Story;

pub(super) fn event(n: u32) -> String {
    format!(
        "{{\"timestamp\":\"2026-11-21T00:00:00.{n:06}+0000\",\"flow_id\":77,\"event_type\":\"alert\",\"src_ip\":\"203.0.113.7\",\"src_port\":{},\"dest_ip\":\"192.168.2.10\",\
         \"dest_port\":22,\"proto\":\"TCP\",\"alert\":{{\"signature_id\":2001219,\"signature\":\"ET SCAN <b>SSH</b>\",\"severity\":2}}}}\n",
        1_024 + n
    )
}

#[test]
fn an_alert_is_seen_followed_to_its_event_acknowledged_and_made_quiet() {
    let story = Story::with_people();
    // The observer goes by the box's own clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    story.clock.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
    story.watching((0..120).map(event).collect());
    let list = text(&get(&story, Role::Viewer, "/alerts"));
    sound(&list, "/alerts");
    assert!(list.contains("ET SCAN &lt;b&gt;SSH") && list.contains("1 open") && list.contains(">120<"), "{list}");
    assert!(!list.contains("Acknowledge the chosen"), "a viewer is not led to what is refused");

    let one = text(&get(&story, Role::Operator, "/alerts/alert?id=1"));
    sound(&one, "/alerts/alert");
    assert!(one.contains("&quot;signature_id&quot;: 2001219") && one.contains("/seen?flow=77"), "{one}");

    let secret = story.browser(Role::Operator);
    let post = |target: &str, fields: &str| -> Response { story.send(&story.form(target, &secret, fields)) };
    let nameless = post("/alerts/suppress", "alert=1&source=203.0.113.7&hours=8&reason=");
    assert_eq!(nameless.status, 422);
    assert!(
        text(&nameless).contains("id=\"e-reason\"") && text(&nameless).contains("<option value=\"8\" selected>"),
        "{}",
        text(&nameless)
    );
    assert_eq!(post("/alerts/suppress", "alert=1&source=203.0.113.7&hours=8&reason=our+own+scanner").status, 303);
    assert_eq!(post("/alerts/acknowledge", "id=1").status, 303);
    let after = text(&get(&story, Role::Operator, "/alerts?show=all"));
    for words in ["0 open", "by operator", "our own scanner", "signature-2001219"] {
        assert!(after.contains(words), "{words} is missing: {after}");
    }
    assert_eq!(post("/alerts/unsuppress", "id=1").status, 303);
    assert_eq!(post("/alerts/unsuppress", "id=1").status, 404);
    let audit = text(&get(&story, Role::Admin, "/audit?action=alert."));
    assert!(audit.contains("alert.acknowledge") && audit.contains("alert.suppress") && audit.contains("alert.unsuppress"), "{audit}");
    let viewer = story.browser(Role::Viewer);
    for target in ["/alerts/acknowledge", "/alerts/suppress", "/alerts/unsuppress"] {
        assert_eq!(story.send(&story.form(target, &viewer, "id=1&alert=1")).status, 403, "{target}");
    }
}

#[test]
fn events_are_searched_and_paged_and_wrong_questions_are_said_at_their_field() {
    let story = Story::with_people();
    story.watching((0..120).map(event).collect());
    let first = text(&get(&story, Role::Viewer, "/seen?address=203.0.113.7"));
    sound(&first, "/seen");
    assert_eq!(first.matches("/seen/event?id=").count(), 50);
    let first = first.replace("&#x2f;", "/");
    let older = first.split("href=\"/seen?kind=").nth(1).and_then(|rest| rest.split('"').next()).expect("a link to older ones");
    let second = text(&get(&story, Role::Viewer, &format!("/seen?kind={}", older.replace("&amp;", "&"))));
    assert_eq!(second.matches("/seen/event?id=").count(), 50);
    assert!(text(&get(&story, Role::Viewer, "/seen?address=192.0.2.9")).contains("No event fits"));
    let wrong = text(&get(&story, Role::Viewer, "/seen?address=nowhere"));
    assert!(wrong.contains("id=\"e-address\""), "{wrong}");
    let secret = story.browser(Role::Viewer);
    assert_eq!(story.send(&story.with_cookie(Method::Get, "/seen/event?id=99", &secret)).status, 404);
}
