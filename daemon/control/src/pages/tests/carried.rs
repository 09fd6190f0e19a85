//! The pages of mapped clients: forms, tables, figures.

use super::{get, sound, text};
use crate::http::{Method, Response};
use crate::role::Role;
use crate::story::Story;
use crate::{candidate, pages};

#[test]
fn a_mapping_is_added_by_its_form_and_what_is_wrong_is_said_without_losing_it() {
    let story = Story::with_people();
    story.carrying();
    let secret = story.browser(Role::Operator);
    let base = value_of(&text(&get(&story, Role::Operator, "/mappings/new")), "base");
    let send = |fields: &str| story.send(&story.form("/mappings/new", &secret, &format!("base={base}&{fields}")));
    let wrong = send("name=paul&clients=192.168.2.10&via=upstream+berlin&dns=drop");
    let html = text(&wrong);
    assert_eq!(wrong.status, 422, "{html}");
    assert!(html.contains("It cannot be saved like this") && html.contains(">\n192.168.2.10</textarea>"), "{html}");
    assert!(html.contains("<option value=\"upstream berlin\" selected>"), "{html}");
    sound(&html, "/mappings/new");
    assert!(!candidate::get(&story.site).expect("a candidate").dirty, "nothing was saved");

    let right =
        send("name=paul&clients=192.168.2.90%0D%0Afd00:2::90&via=group+europe&dns=proxied&downMbit=20&days=mon,tue&from=08:00&until=18:00");
    assert_eq!((right.status, right.header("location")), (303, Some("/policies/preview")), "{}", text(&right));
    let list = text(&get(&story, Role::Operator, "/mappings"));
    assert!(list.contains("paul") && list.contains("in the candidate"), "{list}");

    let one = text(&story.send(&story.with_cookie(Method::Get, "/mappings/mapping?name=paul", &secret)));
    assert!(one.contains("value=\"08:00\"") && one.contains("mon, tue") && one.contains("It stands in the candidate"), "{one}");
    let gone = story.send(&story.form("/mappings/remove", &secret, &format!("mapping=anna&base={}", value_of(&one, "base"))));
    assert_eq!(gone.status, 303, "{}", text(&gone));
    assert!(text(&get(&story, Role::Operator, "/mappings")).contains("The candidate takes it out."));
}

#[test]
fn a_table_is_imported_whole_or_not_at_all() {
    let story = Story::with_people();
    story.carrying();
    let secret = story.browser(Role::Operator);
    let export = text(&get(&story, Role::Viewer, "/mappings/export"));
    assert!(export.starts_with("name,clients,"), "{export}");
    let base = candidate::get(&story.site).expect("a candidate").version;
    let send = |csv: &str| story.send(&story.form("/mappings/import", &secret, &format!("base={base}&file={}", pages::ui::query(csv))));
    let bad =
        send("name,clients,upstream\npaul,192.168.2.90 fd00:2::90,berlin\nx y,nonsense,berlin\neva,192.168.2.91 fd00:2::91,nowhere\n");
    let html = text(&bad);
    assert_eq!(bad.status, 422, "{html}");
    assert!(html.contains("mappings.csv:3") && html.contains("mappings.csv:4") && html.contains("Nothing was imported"), "{html}");
    assert!(!html.contains("mappings.csv:2"), "a good line is not named");
    sound(&html, "/mappings/import");
    assert!(!candidate::get(&story.site).expect("a candidate").dirty, "nothing was imported");

    let same = send(&export);
    assert_eq!(same.status, 303, "{}", text(&same));
    let after = candidate::get(&story.site).expect("a candidate");
    assert_eq!(after.sources, pages::sample::carried_policy(), "an export comes back as it was");
    let more = story.form(
        "/mappings/import",
        &secret,
        &format!("base={}&file={}", after.version, pages::ui::query("name,clients,upstream\npaul,192.168.2.90 fd00:2::90,berlin\n")),
    );
    assert_eq!(story.send(&more).header("location"), Some("/policies/preview"));
    assert!(text(&get(&story, Role::Admin, "/audit?action=mappings.")).contains("1 added, 0 changed, 0 as they were"));
}

#[test]
fn what_is_blocked_says_why_in_words_and_what_is_let_in_says_by_whom() {
    let story = Story::with_people();
    story.carrying();
    let html = text(&get(&story, Role::Viewer, "/mappings"));
    for words in [
        "1 let in, 2 blocked",
        "No upstream carries it: the connection was refused.",
        "The bytes of this day are spent.",
        "198.51.100.77",
        "34 ms",
        "650 MB of 1.00 GB",
        "65.2 MB",
    ] {
        assert!(html.contains(words), "{words} is missing: {html}");
    }
    assert!(!html.contains("Add a mapping"), "a viewer is not led to what is refused");
    let board = text(&get(&story, Role::Viewer, "/"));
    assert!(board.contains("Mapped clients let in") && board.contains("2 blocked") && board.contains("Upstreams up"), "{board}");
    story.forwarder.lock().unwrap().status = None;
    story.site.carried.forget();
    let html = text(&get(&story, Role::Viewer, "/mappings"));
    assert!(html.contains("The forwarder does not answer") && html.contains(">not known<"), "{html}");
    assert!(text(&get(&story, Role::Viewer, "/connections")).contains("The forwarder does not answer."));
}

#[test]
fn upstreams_are_tested_secrets_set_and_flows_ended_from_the_pages() {
    let story = Story::with_people();
    story.carrying();
    let secret = story.browser(Role::Operator);
    let post = |target: &str, fields: &str| story.send(&story.form(target, &secret, fields));
    let flash = |response: &Response| {
        let cookie = response.header("set-cookie").unwrap_or_default().split(['=', ';']).nth(1).unwrap_or_default().to_owned();
        String::from_utf8(crate::secret::from_base64(&cookie).unwrap_or_default()).unwrap_or_default()
    };
    let tested = post("/mappings/test", "mapping=anna");
    assert_eq!(tested.header("location"), Some("/mappings/mapping?name=anna"), "{}", text(&tested));
    assert!(
        flash(&tested).contains("berlin answered in 34 ms, exit 198.51.100.77. oslo failed: the connection was refused."),
        "{}",
        flash(&tested)
    );
    assert!(flash(&post("/upstreams/test", "")).contains("warn"), "one of two");

    let set = post("/upstreams/secret", "name=berlin-password&value=hush");
    assert_eq!((set.status, set.header("location")), (303, Some("/upstreams")), "{}", text(&set));
    assert_eq!(story.box_.lock().unwrap().secrets["berlin-password"], "hush");
    let wrong = text(&post("/upstreams/secret", "name=Not+A+Name&value=hush-hush"));
    assert!(wrong.contains("id=\"e-name\"") && !wrong.contains("hush-hush"), "{wrong}");
    assert_eq!(post("/upstreams/secret/remove", "name=berlin-password").status, 303);

    assert!(flash(&post("/connections/close", "flow=7&mapping=&client=")).contains("Ended: 1 flow."));
    assert!(flash(&post("/connections/close", "all=fd00:2::10")).contains("Ended: 1 flow."));
    assert!(text(&get(&story, Role::Operator, "/connections")).contains("Nothing is open"));
    let viewer = story.browser(Role::Viewer);
    for target in ["/connections/close", "/upstreams/test", "/upstreams/secret", "/mappings/new", "/mappings/import", "/mappings/test"] {
        assert_eq!(story.send(&story.form(target, &viewer, "flow=7")).status, 403, "{target}");
    }
}

#[test]
fn live_figures_hold_what_the_pages_show_under_the_same_keys() {
    let story = Story::with_people();
    story.carrying();
    let known = story.site.carried.look(&story.site);
    for (path, figures) in [("/mappings", pages::mappings::figures(&known)), ("/upstreams", pages::upstreams::figures(&known))] {
        let html = text(&get(&story, Role::Admin, path));
        for (mark, what) in [
            ("data-live=\"", "text"),
            ("data-tone-of=\"", "tone"),
            ("data-points=\"", "line"),
            ("data-path=\"", "path"),
            ("data-width=\"", "bar"),
        ] {
            for key in html.split(mark).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(figures.contains_key(key), "{path} shows the {what} {key}, and nobody sends it");
            }
        }
    }
}

#[test]
fn a_hundred_mappings_make_a_page_that_can_be_read() {
    let story = Story::with_people();
    story.carrying();
    let mut csv = "name,clients,upstream\n".to_owned();
    for n in 0..250 {
        csv.push_str(&format!("m{n},192.168.2.{} fd00:2::{:x},berlin\n", n + 2, n + 0x1000));
    }
    let csv = csv.lines().filter(|line| !line.contains("192.168.2.10 ") && !line.contains("192.168.2.50 ")).collect::<Vec<_>>().join("\n");
    let table = policy::csv::import(&csv, &pages::sample::carried_policy()).expect("a table");
    story.box_.lock().unwrap().install(table.sources, "console");
    story.poll();
    let html = text(&get(&story, Role::Viewer, "/mappings"));
    assert!(html.contains("251 mappings") && html.contains("151 mappings more are not shown"), "{}", &html[..2000]);
    assert!(html.len() < 300_000, "{} bytes", html.len());
    assert!(text(&get(&story, Role::Viewer, "/mappings?q=m249")).contains("1 mapping<"));
}

/// What stands between the first of these and the next quote.
fn value_of(html: &str, name: &str) -> String {
    let at = html.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {html}"));
    at.split('"').next().unwrap_or_default().to_owned()
}
