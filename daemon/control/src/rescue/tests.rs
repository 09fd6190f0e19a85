use policy::messages::encode;

use super::*;
use crate::audit::{self, Filter};
use crate::story::{PASSWORD, Story};

fn rescue(story: &Story) -> Rescue<'_> {
    Rescue { site: &story.site, damaged: None }
}

fn reason(response: RescueResponse) -> String {
    match response {
        RescueResponse::Refused { reason } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn actions(story: &Story) -> Vec<String> {
    audit::list(&story.site, &Filter { limit: 100, ..Filter::default() }).unwrap().into_iter().map(|entry| entry.action).collect()
}

#[test]
fn a_password_is_reset_without_the_old_one_and_stands_in_the_audit_log() {
    let story = Story::with_people();
    let browser = story.browser(Role::Admin);
    let ask = RescueRequest::ResetPassword { user: "admin".into(), password: "seven green bottles".into() };
    assert!(matches!(rescue(&story).answer(ask), RescueResponse::Done { .. }));
    assert!(story.site.hasher.verify("seven green bottles", user::stored_password(&story.site, "admin").unwrap().as_deref()).unwrap());
    let request = story.with_cookie(crate::http::Method::Get, "/", &browser);
    assert_ne!(story.send(&request).status, 200, "the old session is still good");
    assert_eq!(actions(&story)[0], "user.password-reset");
    assert!(audit::verify(&story.site).unwrap().intact);
}

#[test]
fn a_weak_password_and_an_unknown_name_are_refused() {
    let story = Story::with_people();
    let ask = |user: &str, password: &str| {
        reason(rescue(&story).answer(RescueRequest::ResetPassword { user: user.into(), password: password.into() }))
    };
    assert!(ask("admin", "short").contains("12 to 256"));
    assert!(ask("nobody", "seven green bottles").contains("nobody"));
}

#[test]
fn a_damaged_database_is_put_aside_and_the_box_can_be_set_up_again() {
    let story = Story::with_people();
    assert!(reason(rescue(&story).answer(RescueRequest::StartAnew)).contains("can be used"));
    let settings = story.site.settings.clone();
    drop(story.site);
    fs::write(settings.state_dir.join("config.v1.db"), "not a database at all, whatever it was").unwrap();
    let _ = fs::remove_file(settings.state_dir.join("config.v1.db-wal"));
    let (site, opened) = Site::open(settings.clone(), settings.run_dir.join("applier.sock")).unwrap();
    let mut rescue = Rescue { site: &site, damaged: Some(opened.unwrap_err().to_string()) };
    let RescueResponse::Status(status) = rescue.answer(RescueRequest::Status) else { panic!("no status") };
    assert!(status.damaged.is_some_and(|why| why.contains("damaged")) && status.admins.is_empty());
    assert!(matches!(rescue.answer(RescueRequest::StartAnew), RescueResponse::Done { .. }));
    let RescueResponse::Status(status) = rescue.answer(RescueRequest::Status) else { panic!("no status") };
    assert_eq!(status.damaged, None);
    assert!(status.setup_code.is_some());
    let kept = fs::read_dir(&settings.state_dir)
        .unwrap()
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("config.v1.db.damaged-")));
    assert!(kept.count() >= 1, "the damaged database is gone");
}

#[test]
fn a_shell_needs_an_admin_to_allow_it_and_an_admin_to_open_it() {
    let story = Story::with_people();
    let open = |name: &str| RescueRequest::OpenShell { terminal: "ttyS0".into(), name: name.into(), password: PASSWORD.into() };
    let allow = |name: &str, password: &str| RescueRequest::AllowShell { allow: true, name: name.into(), password: password.into() };
    assert!(reason(rescue(&story).answer(open("admin"))).contains("no login shell is allowed"));
    assert!(reason(rescue(&story).answer(allow("operator", PASSWORD))).contains("not the name and password of an admin"));
    assert!(reason(rescue(&story).answer(allow("admin", "wrong wrong wrong"))).contains("not the name and password of an admin"));
    assert!(matches!(rescue(&story).answer(allow("admin", PASSWORD)), RescueResponse::Done { .. }));
    assert!(matches!(rescue(&story).answer(open("admin")), RescueResponse::Done { .. }));
    assert!(story.site.settings.run_dir.join("shell-ttyS0").exists());
    let elsewhere = RescueRequest::OpenShell { terminal: "../etc".into(), name: "admin".into(), password: PASSWORD.into() };
    assert!(reason(rescue(&story).answer(elsewhere)).contains("own terminals"));
    let forbid = RescueRequest::AllowShell { allow: false, name: String::new(), password: String::new() };
    assert!(matches!(rescue(&story).answer(forbid), RescueResponse::Done { .. }));
    assert!(reason(rescue(&story).answer(open("admin"))).contains("no login shell is allowed"));
    for action in ["shell.allow", "shell.open", "shell.forbid", "login.failed"] {
        assert!(actions(&story).iter().any(|noted| noted == action), "{action} is not in the audit log");
    }
}

#[test]
fn whoever_is_not_on_the_list_gets_no_answer() {
    let story = Story::with_people();
    let own = nix::unistd::getuid().as_raw();
    for (allowed, answered) in [(vec![own + 1], false), (vec![own], true)] {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&encode(&RescueRequest::Status).unwrap()).unwrap();
        here.shutdown(std::net::Shutdown::Write).unwrap();
        serve(&story.site, Ok(()), there, &allowed).unwrap();
        let mut answer = Vec::new();
        // Whoever is not answered finds the connection closed, with the question unread.
        let _ = here.read_to_end(&mut answer);
        assert_eq!(!answer.is_empty(), answered);
    }
}
