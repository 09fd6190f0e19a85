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
    for (path, figures) in [
        ("/mappings", pages::mappings::figures(&known)),
        ("/upstreams", pages::upstreams::figures(pages::page::config(&story.site.applier.seen()), &known)),
    ] {
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

#[test]
fn an_upstream_with_a_password_is_added_by_its_form_and_the_policy_names_the_secret() {
    let story = Story::with_people();
    story.carrying();
    let secret = story.browser(Role::Operator);
    let base = value_of(&text(&get(&story, Role::Operator, "/upstreams/new")), "base");
    let send = |fields: &str| story.send(&story.form("/upstreams/new", &secret, &format!("base={base}&{fields}")));

    let tls = text(&send("name=riga&type=socks5&address=&port=1080&serverName=x"));
    assert!(tls.contains("id=\"e-serverName\"") && tls.contains("id=\"e-address\""), "{tls}");
    let wrong = send("name=riga&type=socks5&address=192.168.2.300&port=70000&username=anna&password=&kept=&expectExit=x");
    let html = text(&wrong);
    assert_eq!(wrong.status, 422, "{html}");
    for (field, words) in [("port", "70000"), ("address", "192.168.2.300"), ("expectExit", "x")] {
        let error = html.split(&format!("id=\"e-{field}\">")).nth(1).unwrap_or_else(|| panic!("nothing is said at {field}: {html}"));
        assert!(error.split('<').next().is_some_and(|error| error.contains(words)), "{field}: {error:.200}");
    }
    assert!(html.contains("value=\"70000\"") && html.contains("It cannot be saved like this"), "{html}");
    sound(&html, "/upstreams/new");
    let wrong = text(&send("name=riga&type=socks5&address=192.168.2.1&port=1080&username=anna&password=&kept="));
    assert!(wrong.contains("is the box itself") && wrong.contains("id=\"e-username\""), "{wrong}");
    let mine = text(&send("name=riga&type=socks5&address=192.168.2.1&port=1080&username=anna&password=hush-hush"));
    assert!(!mine.contains("hush-hush"), "a password comes back");
    assert!(story.box_.lock().unwrap().secrets.is_empty(), "a secret was set although nothing was saved");
    assert!(!candidate::get(&story.site).expect("a candidate").dirty, "nothing was saved");
    assert!(text(&send("name=riga&type=socks5&address=&port=")).contains("id=\"e-address\""));

    let right =
        send("name=riga&type=socks5&udp=no&address=203.0.113.12&port=1080&username=anna&password=hush-hush&expectExit=203.0.113.0/24");
    assert_eq!((right.status, right.header("location")), (303, Some("/policies/preview")), "{}", text(&right));
    assert_eq!(story.box_.lock().unwrap().secrets["riga-password"], "hush-hush");
    let written = candidate::get(&story.site).expect("a candidate");
    let stands = written.sources.0.values().any(|text| text.contains("passwordSecret: \"riga-password\"") && !text.contains("hush-hush"));
    assert!(stands, "{:?}", written.sources);
    let preview = text(&get(&story, Role::Operator, "/policies/preview"));
    assert!(preview.contains("Mapped clients and upstreams") && preview.contains("upstream riga"), "{preview}");
    let list = text(&get(&story, Role::Operator, "/upstreams"));
    assert!(list.contains("riga") && list.contains("Not applied yet."), "{list}");
    assert!(text(&get(&story, Role::Admin, "/audit?action=secret.")).contains("riga-password"));
}

#[test]
fn a_new_password_of_an_upstream_that_runs_does_not_touch_what_runs() {
    let story = Story::with_people();
    story.carrying();
    story.box_.lock().unwrap().secrets.insert("berlin-password".to_owned(), "old".to_owned());
    story.site.carried.forget();
    let secret = story.browser(Role::Operator);
    let form = text(&get(&story, Role::Operator, "/upstreams/upstream?name=berlin"));
    assert!(form.contains("<option value=\"berlin-password\" selected>") && form.contains("value=\"box\""), "{form}");
    let fields = format!(
        "base={}&upstream=berlin&type=socks5&udp=yes&address=203.0.113.10&port=1080&username=box&kept=berlin-password&password=new",
        value_of(&form, "base")
    );
    let saved = story.send(&story.form("/upstreams/upstream", &secret, &fields));
    assert_eq!(saved.status, 303, "{}", text(&saved));
    {
        let box_ = story.box_.lock().unwrap();
        assert_eq!((box_.secrets["berlin-password"].as_str(), box_.secrets["berlin-password-2"].as_str()), ("old", "new"));
    }
    let sources = candidate::get(&story.site).expect("a candidate").sources;
    assert!(sources.0["carried.yaml"].contains("passwordSecret: \"berlin-password-2\""), "{sources:?}");
    assert!(
        sources.0["carried.yaml"].contains("# Paid until May.\napiVersion: portcullis/v1\nkind: Upstream\nmetadata:\n  name: \"berlin\"")
    );

    story.box_.lock().unwrap().dead = true;
    let form = text(&get(&story, Role::Operator, "/upstreams/upstream?name=berlin"));
    let fields = fields.replacen(&format!("base={}", 0), &format!("base={}", value_of(&form, "base")), 1);
    let lost = story.send(&story.form("/upstreams/upstream", &secret, &fields));
    let html = text(&lost);
    assert!(lost.status == 409 && html.contains("applier does not answer") && html.contains("value=\"203.0.113.10\""), "{html}");
}

#[test]
fn a_group_is_made_and_what_is_still_needed_is_not_taken_out() {
    let story = Story::with_people();
    story.carrying();
    let secret = story.browser(Role::Operator);
    let post = |target: &str, fields: &str| story.send(&story.form(target, &secret, fields));
    let twice = post("/upstreams/group/new", "base=0&name=north&members=oslo&members=oslo&failAfter=50&recoverAfter=2");
    let html = text(&twice);
    assert!(twice.status == 422 && html.contains("id=\"e-members1\"") && html.contains("id=\"e-failAfter\""), "{html}");
    sound(&html, "/upstreams/group/new");
    let none = text(&post("/upstreams/group/new", "base=0&name=north&members=&members="));
    assert!(none.contains("carries nobody"), "{none}");
    let made =
        post("/upstreams/group/new", "base=0&name=north&strategy=latency&members=oslo&members=&members=berlin&failAfter=3&recoverAfter=1");
    assert_eq!((made.status, made.header("location")), (303, Some("/policies/preview")), "{}", text(&made));
    let one = text(&get(&story, Role::Operator, "/upstreams/group?name=north"));
    assert!(one.contains("It stands in the candidate") && one.contains("the quickest"), "{one}");
    let base = value_of(&one, "base");

    let needed = post("/upstreams/remove", &format!("base={base}&upstream=oslo"));
    let html = text(&needed);
    assert!(needed.status == 422 && html.contains("ProxyMapping&#x2f;printer") && html.contains("UpstreamGroup&#x2f;europe"), "{html}");
    let gone = post("/upstreams/group/remove", &format!("base={base}&group=north"));
    assert_eq!(gone.status, 303, "{}", text(&gone));
    assert_eq!(post("/upstreams/group/remove", "base=2&group=north").status, 404, "it is gone");
    let stale = post("/upstreams/group", &format!("base={base}&group=europe&members=oslo"));
    assert!(stale.status == 409 && text(&stale).contains("changed the candidate meanwhile"), "{}", text(&stale));
    let history = text(&get(&story, Role::Viewer, "/upstreams/group?name=europe"));
    assert!(history.contains("Group from then on") && history.contains("degraded") && !history.contains("Save and preview"), "{history}");
}

#[test]
fn an_open_page_of_connections_hears_of_bytes_and_of_ends() {
    let story = Story::with_people();
    story.carrying();
    let html = text(&get(&story, Role::Operator, "/connections"));
    assert!(html.contains("shown=7.9") && html.contains("By client") && html.contains("End all"), "{html}");
    assert!(html.contains("4,200 because the upstream carries none"), "{html}");
    let asked = crate::http::Fields::from(vec![("shown".to_owned(), "7.9.11".to_owned())]);
    let live = pages::connections::figures(&story.site, &asked);
    assert_eq!((live["flow.7.down"].as_str(), live["flow.11.state"].as_str(), live["flows.news"].as_str()), ("60.0 MB", "ended", ""));
    assert!(!live.contains_key("flow.7.state"));
    let none = pages::connections::figures(&story.site, &crate::http::Fields::default());
    assert_eq!(none["flows.news"], "2 more than shown here.");
    story.forwarder.lock().unwrap().status = None;
    story.site.carried.forget();
    assert!(pages::connections::figures(&story.site, &asked).is_empty(), "nobody answers, so nothing has ended");
}

#[test]
fn edits_of_mapped_clients_are_found_in_the_audit_log() {
    let story = Story::with_people();
    story.carrying();
    let secret = story.browser(Role::Operator);
    story.send(&story.form("/upstreams/group/new", &secret, "base=0&name=north&members=oslo"));
    story.send(&story.form("/mappings/remove", &secret, "base=1&mapping=tv"));
    let found = |query: &str| text(&get(&story, Role::Auditor, &format!("/audit?{query}")));
    assert!(found("action=group.").contains("added, candidate version 1"), "{}", found("action=group."));
    assert!(found("action=mapping&q=tv").contains("taken out, candidate version 2"), "{}", found("action=mapping"));
    assert!(found("").contains("mappings blocked") && found("").contains("connections ended"));
}

#[test]
fn explain_says_whose_client_a_packet_is_also_by_hardware_address() {
    let story = Story::with_people();
    story.carrying();
    let by_mac = "/explain?from=lan&source=192.168.2.77&mac=02:00:00:00:00:01&destination=198.51.100.10&protocol=tcp&port=443";
    let html = text(&get(&story, Role::Viewer, by_mac));
    assert!(html.contains("a client of the mapping") && html.contains("name=tv") && html.contains("It depends"), "{html}");
    assert!(html.contains("The bytes of this day are spent."), "what runs is also asked how it is: {html}");
    let nobody = text(&get(&story, Role::Viewer, &by_mac.replace("00:01", "00:02")));
    assert!(!nobody.contains("a client of the mapping"), "{nobody}");
    let wrong = get(&story, Role::Viewer, &by_mac.replace("02:00", "zz"));
    assert!(wrong.status == 422 && text(&wrong).contains("id=\"e-mac\""), "{}", text(&wrong));
}

/// What stands between the first of these and the next quote.
fn value_of(html: &str, name: &str) -> String {
    let at = html.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {html}"));
    at.split('"').next().unwrap_or_default().to_owned()
}
