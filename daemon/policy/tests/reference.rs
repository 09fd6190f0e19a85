//! `docs/policy.md` says what the types say.

use std::path::Path;

#[test]
fn the_page_about_the_language_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let page = policy::reference::reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).expect("docs/policy.md can be written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/policy.md can be read");
    assert!(written == page, "docs/policy.md is not what the types say; UPDATE=1 cargo test -p policy --test reference writes it");
}

#[test]
fn every_kind_and_every_record_is_on_the_page() {
    let page = policy::reference::reference();
    for heading in [
        "## System",
        "## FirewallPolicy",
        "### FirewallRule",
        "### NatRule",
        "### RuleSchedule",
        "### Admin",
        "## Assertion",
        "### RateLimit",
    ] {
        assert!(page.lines().any(|line| line == heading), "{heading} is missing");
    }
    for (name, word) in [("masquerade", "type: masquerade"), ("quic", "| `quic` |")] {
        assert!(page.contains(word), "{name} is missing");
    }
}
