//! Updates as pages and API ask for them, with a stand-in that only listens.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use policy::messages::updater::{LastUpdate, Outcome, Refusal, Slot, SlotState, Source, UpdaterRequest, UpdaterResponse, UpdaterStatus};
use policy::messages::{Inbox, encode};
use serde_json::json;

use crate::http::Method;
use crate::http::upload;
use crate::role::Role;
use crate::story::Story;

/// What came, and how many descriptors with it.
type Heard = Arc<Mutex<Vec<(UpdaterRequest, usize)>>>;

fn stand_in(story: &Story) -> Heard {
    let heard = Heard::default();
    let listener = UnixListener::bind(story.folder.path().join("updater.sock")).unwrap();
    let tell = heard.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut bytes, mut space) = (vec![0; 8192], nix::cmsg_space!([RawFd; 2]));
            let (length, came) = {
                let mut slices = [IoSliceMut::new(&mut bytes)];
                let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).unwrap();
                let came = message
                    .cmsgs()
                    .unwrap()
                    .map(|control| if let ControlMessageOwned::ScmRights(files) = control { files.len() } else { 0 })
                    .sum();
                (message.bytes, came)
            };
            let mut inbox = Inbox::default();
            inbox.push(&bytes[..length]);
            let request: UpdaterRequest = inbox.take().unwrap().unwrap();
            let answer = match &request {
                UpdaterRequest::Status => UpdaterResponse::Status(status()),
                UpdaterRequest::Sticks => UpdaterResponse::Sticks { sticks: vec![] },
                UpdaterRequest::Install { downgrade: true, .. } => {
                    UpdaterResponse::Refused { why: Refusal::Busy, reason: "an update is under way".into() }
                }
                UpdaterRequest::Install { .. } => UpdaterResponse::Begun,
                _ => UpdaterResponse::Done,
            };
            tell.lock().unwrap().push((request, came));
            stream.write_all(&encode(&answer).unwrap()).unwrap();
        }
    });
    heard
}

fn status() -> UpdaterStatus {
    let slot = |version: &str, state, booted| Slot { label: format!("portcullis_{version}"), version: Some(version.into()), state, booted };
    UpdaterStatus {
        now: 0,
        product: "portcullis".into(),
        version: "0.1.0".into(),
        recipe: "c0ffee".into(),
        keys: vec!["release".into()],
        slots: vec![slot("0.1.0", SlotState::Good, true), slot("0.2.0", SlotState::Bad, false)],
        work: None,
        last_update: Some(LastUpdate {
            at: crate::story::START,
            from: "0.1.0".into(),
            version: "0.2.0".into(),
            by: "anna".into(),
            outcome: Outcome::TakenBack,
            reason: Some("control does not answer".into()),
        }),
    }
}

#[test]
fn an_uploaded_file_goes_to_the_updater_as_a_descriptor_and_into_the_audit_log() {
    let story = Story::with_people();
    let heard = stand_in(&story);
    let secret = story.browser(Role::Admin);
    let mut request = story.form("/system/update/file", &secret, "");
    let boundary = "multipart/form-data; boundary=x";
    let token = crate::csrf::token(&secret);
    let body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n{token}\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bundle\"\r\n\r\nPORTCULLISBUNDLE\r\n--x--\r\n"
    );
    request.headers.insert("content-type".into(), boundary.into());
    request.upload = Some(Arc::new(upload::keep(boundary, &mut body.as_bytes(), story.folder.path()).unwrap()));
    request.body.clear();
    let answer = story.send(&request);
    assert_eq!((answer.status, answer.header("Location")), (303, Some("/system/update")));
    let asked = heard.lock().unwrap().pop().unwrap();
    assert!(
        matches!(asked, (UpdaterRequest::Install { source: Source::Descriptor, downgrade: false, ref by }, 1) if by.name == "admin"),
        "{asked:?}"
    );
    let (_, log) = story.api(Role::Auditor, Method::Get, "/audit?action=update.install", None);
    assert!(log.to_string().contains("an uploaded file"), "{log}");
    // The same file from another site's page.
    request.upload =
        Some(Arc::new(upload::keep("application/octet-stream", &mut b"PORTCULLISBUNDLE".as_slice(), story.folder.path()).unwrap()));
    assert_eq!(story.send(&request).status, 403);
}

#[test]
fn only_an_admin_updates_or_restarts_the_box_and_everybody_sees_how_it_stands() {
    let story = Story::with_people();
    let heard = stand_in(&story);
    for role in [Role::Operator, Role::Viewer, Role::Auditor] {
        for path in [
            "/system/update",
            "/system/update/file",
            "/system/update/check",
            "/system/update/boot-other",
            "/system/reboot",
            "/system/power-off",
        ] {
            assert_eq!(story.api(role, Method::Post, path, Some(json!({ "url": "https://a.example/x" }))).0, 403, "{role} {path}");
        }
        let (code, told) = story.api(role, Method::Get, "/system/update", None);
        assert_eq!((code, told["lastUpdate"]["outcome"].as_str()), (200, Some("taken-back")));
    }
    assert!(heard.lock().unwrap().iter().all(|(request, _)| *request == UpdaterRequest::Status));
    for (path, wanted) in [
        ("/system/update", "install"),
        ("/system/update/boot-other", "bootOther"),
        ("/system/reboot", "reboot"),
        ("/system/power-off", "powerOff"),
    ] {
        let body = json!({ "url": "https://a.example/x" });
        assert_eq!(story.api(Role::Admin, Method::Post, path, Some(body)).0, 204, "{path}");
        let (request, files) = heard.lock().unwrap().pop().unwrap();
        assert_eq!((serde_json::to_value(&request).unwrap()["request"].as_str(), files), (Some(wanted), 0));
    }
}

#[test]
fn what_the_updater_refuses_is_told_with_its_reason_and_noted() {
    let story = Story::with_people();
    let _heard = stand_in(&story);
    let (code, told) = story.api(Role::Admin, Method::Post, "/system/update?downgrade=yes", Some(json!({ "url": "https://a.example/x" })));
    assert_eq!((code, told["detail"].as_str()), (409, Some("an update is under way")));
    let (_, log) = story.api(Role::Auditor, Method::Get, "/audit?action=update.install", None);
    assert!(log.to_string().contains("not done: an update is under way"), "{log}");
    assert_eq!(story.api(Role::Admin, Method::Post, "/system/update", Some(json!({ "stick": "sdb1" }))).0, 422);
}

#[test]
fn the_page_says_that_an_update_was_taken_back_and_why() {
    let story = Story::with_people();
    let _heard = stand_in(&story);
    let page = story.send(&story.with_cookie(Method::Get, "/system/update", &story.browser(Role::Admin)));
    let text = String::from_utf8_lossy(page.bytes()).into_owned();
    assert_eq!(page.status, 200);
    assert!(text.contains("0.2.0 was not good, and 0.1.0 runs again. Why: control does not answer."), "{text}");
    assert_eq!(story.send(&story.with_cookie(Method::Get, "/system/update", &story.browser(Role::Operator))).status, 403);
}

#[test]
fn without_an_updater_the_page_says_so_and_nothing_else_is_lost() {
    let story = Story::with_people();
    let (code, told) = story.api(Role::Admin, Method::Get, "/system/update", None);
    assert_eq!(code, 503, "{told}");
    assert!(File::open(story.folder.path().join("config.v1.db")).is_ok());
}
