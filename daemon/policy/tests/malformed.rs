//! Hundreds of broken and hostile policies. Each must end in problems that name a place, in bounded time and memory, without a panic,
//! and without passing a control character on to whoever's terminal shows them.
//!
//! Memory is the kernel's own figure: the peak of resident memory is set back (`/proc/self/clear_refs`) before each policy and read
//! (`VmHWM`) after it. So this file has one test, and nothing runs beside it.

use std::fs;
use std::time::{Duration, Instant};

use policy::{Problems, Sources, load};

/// What the biggest hostile text may cost beyond what was resident before, KiB.
const MOST_MEMORY: u64 = 192 << 10;
/// In a debug build on a busy machine; all but a few take milliseconds.
const MOST_TIME: Duration = Duration::from_secs(60);

#[test]
fn malformed_policies_give_problems_with_places_in_bounded_time_and_memory() {
    let corpus = [truncated(), hostile_yaml(), strange_characters(), wrong_types(), too_big()].concat();
    assert!(corpus.len() >= 300, "only {} policies", corpus.len());
    let count = corpus.len();
    let (mut slowest, mut hungriest) = ((Duration::ZERO, String::new()), (0, String::new()));
    for (name, text) in corpus {
        let sources = Sources::single("a.yaml", text);
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let (resident, start) = (status("VmRSS"), Instant::now());
        let problems = load(&sources).expect_err(&name);
        let (took, memory) = (start.elapsed(), status("VmHWM").saturating_sub(resident));
        are_clear(&problems, &name);
        assert!(memory < MOST_MEMORY, "{name} took {memory} KiB");
        assert!(took < MOST_TIME, "{name} took {took:?}");
        slowest = slowest.max((took, name.clone()));
        hungriest = hungriest.max((memory, name));
    }
    println!("{count} policies, slowest {slowest:?}, hungriest {hungriest:?} KiB");
}

fn are_clear(problems: &Problems, name: &str) {
    assert!(problems.0.iter().any(|problem| problem.origin.is_some()), "{name}: no place in\n{problems}");
    assert!(problems.0.len() <= 1000, "{name}: {} problems", problems.0.len());
    for problem in &problems.0 {
        let text = problem.to_string();
        let bad = text.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
        assert!(bad.is_none(), "{name}: {bad:?} in {text:?}");
        assert!(text.len() < 1000, "{name}: {} bytes of {text:.200}", text.len());
        assert!(problem.message.len() > 20, "{name}: {text}");
    }
}

/// A field of `/proc/self/status` in KiB.
fn status(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const ENVELOPE: &str = "apiVersion: portcullis/v1\nkind: KIND\nmetadata: { name: NAME }\n";

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("{}spec: {spec}\n", ENVELOPE.replace("KIND", kind).replace("NAME", name))
}

fn rule(fields: &str) -> String {
    resource("FirewallPolicy", "p", &format!("{{ rules: [{{ name: r, from: lan, to: wan, action: accept, {fields} }}] }}"))
}

/// Cut off inside a word that every document needs.
fn truncated() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for point in policy::starting_points() {
        for (word, kept) in [("metadata:", 5), ("spec:", 3), ("kind:", 2), ("apiVersion:", 6)] {
            for (at, _) in point.text.match_indices(word).filter(|(at, _)| point.text[..*at].ends_with('\n')) {
                found.push((format!("{} cut at byte {}", point.name, at + kept), point.text[..at + kept].to_owned()));
            }
        }
        for bracket in ['{', '[', '"'] {
            for (at, _) in
                point.text.match_indices(bracket).filter(|(at, _)| !comment(point.text, *at) && opens(point.text, *at)).step_by(3)
            {
                found.push((format!("{} cut behind {bracket} at byte {at}", point.name), point.text[..=at].to_owned()));
            }
        }
    }
    found
}

fn comment(text: &str, at: usize) -> bool {
    text[..at].rsplit('\n').next().is_some_and(|line| line.contains('#'))
}

/// A closing quotation mark is a fine end of a file.
fn opens(text: &str, at: usize) -> bool {
    text[..at].rsplit('\n').next().is_some_and(|line| line.matches('"').count() % 2 == 0)
}

fn hostile_yaml() -> Vec<(String, String)> {
    let laughs: String = (1..30).map(|level| format!("l{level}: &l{level} [{}]\n", format!("*l{}, ", level - 1).repeat(10))).collect();
    let texts = [
        ("billion laughs", format!("l0: &l0 [ha]\n{laughs}")),
        ("billion laughs in one list", format!("[&a [x], &b [*a, *a], {}]", "&c [*b, *b], ".repeat(1000))),
        ("an alias of itself", "&a [*a]\n".to_owned()),
        ("an alias in a circle", "a: &a { b: *b }\nb: &b { a: *a }\n".to_owned()),
        ("merge keys", "base: &base { a: 1 }\nother:\n  <<: *base\n".to_owned()),
        ("a merge key without an alias", resource("Zone", "x", "{ <<: { antiSpoofing: true } }")),
        ("a tag that runs code elsewhere", "!!python/object/apply:os.system ['reboot']\n".to_owned()),
        ("a binary tag", resource("Zone", "x", "{ antiSpoofing: !!binary aGk= }")),
        ("an own tag", rule("comment: !secret x")),
        ("a verbatim tag", rule("comment: !<tag:yaml.org,2002:str> x")),
        ("a directive", format!("%YAML 1.2\n---\n{}", resource("Zone", "x", "{}"))),
        ("a tag directive", format!("%TAG ! tag:example.com,2000:\n---\n{}", resource("Zone", "x", "{}"))),
        ("an unknown directive", "%FOO bar\n".to_owned()),
        ("a reserved indicator", "a: @b\n".to_owned()),
        ("a backtick", "a: `b`\n".to_owned()),
        ("an unclosed list", "a: [b, c\n".to_owned()),
        ("an unclosed map", "a: { b: c\n".to_owned()),
        ("an unclosed double quote", "a: \"b\n".to_owned()),
        ("an unclosed single quote", "a: 'b\n".to_owned()),
        ("a wrong closing bracket", "a: [b }\n".to_owned()),
        ("a stray closing bracket", "a: b ]\nc: ]\n".to_owned()),
        ("tabs for indentation", "kind: Zone\nmetadata:\n\tname: x\n".to_owned()),
        ("tabs in front", "\tkind: Zone\n".to_owned()),
        ("indentation that goes back too far", "a:\n    b: 1\n  c: 2\n".to_owned()),
        ("a list where a map was", "a: 1\n- b\n".to_owned()),
        ("two values of one key", "a: b: c\n".to_owned()),
        ("a key that is a list", "[a, b]: c\n".to_owned()),
        ("a key that is a map", "{ a: b }: c\n".to_owned()),
        ("a key that is empty", ": c\n".to_owned()),
        ("an explicit key", "? kind\n: Zone\n".to_owned()),
        ("an explicit complex key", "? - a\n  - b\n: Zone\n".to_owned()),
        ("an unknown escape", "a: \"\\q\"\n".to_owned()),
        ("an escape of half a surrogate", "a: \"\\ud800\"\n".to_owned()),
        ("an escape beyond Unicode", "a: \"\\UFFFFFFFF\"\n".to_owned()),
        ("an escape that ends", "a: \"\\x4".to_owned()),
        ("a block text that is not indented", "a: |\nb\n".to_owned()),
        ("a block text with a wrong indicator", "a: |12\n  b\n".to_owned()),
        ("an anchor without a value", "&a".to_owned()),
        ("an alias without a name", "a: *\n".to_owned()),
        ("a tag without a value", "!".to_owned()),
        ("only a document end", "...\nkind: Zone\n".to_owned()),
        ("text behind a document end", format!("{}...\nkind: Zone\n", resource("Zone", "x", "{}"))),
        ("duplicate keys", "kind: Zone\nkind: Zone\n".to_owned()),
        ("duplicate keys by an escape", "kind: Zone\n\"\\x6bind\": System\n".to_owned()),
        ("a thousand duplicate keys", "kind: Zone\n".repeat(1000)),
        ("a hundred thousand duplicate keys", "a: b\n".repeat(100_000)),
        ("JSON that stops", "{\"apiVersion\": \"portcullis/v1\", \"kind\": \"Zone\", ".to_owned()),
        ("JSON in a list", format!("[{}]", "{\"kind\": \"Zone\"},".repeat(3))),
        ("a number", "42\n".to_owned()),
        ("a list", "- a\n- b\n".to_owned()),
        ("an XML file", "<?xml version=\"1.0\"?>\n<policy/>\n".to_owned()),
        ("an nft file", "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0;\n\t}\n}\n".to_owned()),
        ("an ini file", "[section]\nkey = value\n".to_owned()),
        ("a Kubernetes resource", "apiVersion: v1\nkind: Pod\nmetadata: { name: x, labels: { a: b } }\nspec: {}\n".to_owned()),
        (
            "a NetworkPolicy of Kubernetes",
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: x }\nspec: { podSelector: {} }\n".to_owned(),
        ),
    ];
    texts.map(|(name, text)| (name.to_owned(), text)).into()
}

fn strange_characters() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let strange = [
        ("zero byte", '\0'),
        ("bell", '\u{7}'),
        ("backspace", '\u{8}'),
        ("vertical tab", '\u{b}'),
        ("form feed", '\u{c}'),
        ("carriage return", '\r'),
        ("escape", '\u{1b}'),
        ("delete", '\u{7f}'),
        ("next line", '\u{85}'),
        ("control sequence introducer", '\u{9b}'),
        ("soft hyphen", '\u{ad}'),
        ("zero width space", '\u{200b}'),
        ("right-to-left override", '\u{202e}'),
        ("line separator", '\u{2028}'),
        ("isolate", '\u{2066}'),
        ("byte order mark", '\u{feff}'),
        ("noncharacter", '\u{ffff}'),
        ("tag character", '\u{e0041}'),
    ];
    for (what, c) in strange {
        let escape = format!("\\U{:08X}", c as u32);
        let places = [
            ("a name", resource("Zone", &format!("a{c}b"), "{}")),
            ("a name by escape", resource("Zone", &format!("\"a{escape}b\""), "{}")),
            ("a kind by escape", resource(&format!("\"Zone{escape}\""), "a", "{}")),
            ("a field by escape", resource("Zone", "a", &format!("{{ \"anti{escape}\": true }}"))),
            ("a comment of a rule", rule(&format!("comment: a{c}b"))),
            ("a comment of a rule by escape", rule(&format!("comment: \"a{escape}b\""))),
            ("a comment of the file", format!("# {c} hidden\n{}", resource("Zone", "x", "{}"))),
            ("an address by escape", resource("AddressSet", "a", &format!("{{ addresses: \"10.0.0.1{escape}\" }}"))),
        ];
        found.extend(places.map(|(place, text)| (format!("{what} in {place}"), text)));
    }
    found.push(("terminal commands".to_owned(), resource("Zone", "\"\\e]0;owned\\a\\e[2J\"", "{}")));
    found.push(("line ends of Windows and a mistake".to_owned(), resource("Zone", "x", "{ antiSpofing: true }").replace('\n', "\r\n")));
    found.push((
        "a byte order mark in front and a mistake".to_owned(),
        format!("\u{feff}{}", resource("Zone", "x", "{ antiSpofing: true }")),
    ));
    found
}

/// Every value of one of everything, replaced by something of another sort.
fn wrong_types() -> Vec<(String, String)> {
    let text = include_str!("../cases/schema.yaml");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(": ") {
        let rest = &text[at + 2..];
        let end = rest.find([',', '\n', '}']).unwrap();
        if comment(text, at)
            || rest.starts_with(['{', '[']) && rest[..end].matches(['{', '[']).count() != rest[..end].matches(['}', ']']).count()
        {
            continue;
        }
        for wrong in ["{ a: { b: c } }", "[[[]]]", "\"\\e[31m\""] {
            found.push((format!("{wrong} at byte {at}"), format!("{}{wrong}{}", &text[..at + 2], &rest[end..])));
        }
    }
    found
}

fn too_big() -> Vec<(String, String)> {
    let repeated = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    let mib = 1 << 20;
    let set = |list: &str| resource("AddressSet", "a", &format!("{{ addresses: {list} }}"));
    let texts = [
        ("ten million entries, in brackets", set(&format!("[{}]", repeated("1,", 20_000_000)))),
        ("ten million entries, a line each", format!("{}spec:\n  addresses:\n{}", ENVELOPE, repeated("  - 1\n", 60_000_000))),
        ("as many entries as 16 MiB hold, in brackets", set(&format!("[{}]", repeated("1,", 16 * mib - 200)))),
        ("as many entries as 16 MiB hold, a line each", repeated("- 1\n", 16 * mib)),
        ("a million maps in brackets", format!("[{}]", repeated("{},", 3 * mib))),
        ("a million pairs in brackets", format!("[{}]", repeated("a: b,", 5 * mib))),
        ("a million fields", (0..mib).map(|field| format!("k{field}: v\n")).collect()),
        ("a million documents", repeated("---\n", 4 * mib)),
        ("a hundred thousand broken documents", repeated("---\n- a\n", 800_000)),
        ("a hundred thousand equal resources", format!("---\n{}", resource("Zone", "x", "{}")).repeat(100_000)),
        (
            "a hundred thousand rules with mistakes",
            format!(
                "{}spec:\n  rules:\n{}",
                ENVELOPE.replace("KIND", "FirewallPolicy").replace("NAME", "p"),
                "    - { nam: x }\n".repeat(100_000)
            ),
        ),
        ("a scalar of 6 MiB", repeated("a", 6 * mib)),
        ("a quoted scalar of 2 MiB as a name", resource("Zone", &format!("\"{}\"", repeated("a", 2 * mib)), "{}")),
        ("a kind of 2 MiB", resource(&repeated("Z", 2 * mib), "x", "{}")),
        ("a field of 1 KiB", resource("Zone", "x", &format!("{{ {}: 1 }}", repeated("a", 1000)))),
        ("an address of 1 MiB", set(&repeated("1", mib))),
        ("a comment of 1 MiB", rule(&format!("comment: {}", repeated("a", mib)))),
        ("lists in lists", "[".repeat(100_000)),
        ("maps in maps", "{a: ".repeat(100_000)),
        ("lists in lists, by dashes", "- ".repeat(100_000)),
        ("keys in keys", "? ".repeat(100_000)),
        ("lists in lists, a line each", (0..2000).map(|depth| format!("{}-\n", " ".repeat(depth))).collect()),
        ("maps in maps, a line each", (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect()),
        ("a million anchors", repeated("&a ", 3 * mib)),
        ("a million tags", repeated("! ", 2 * mib)),
        ("quotation marks", repeated("'", 4 * mib)),
        ("commas in brackets", format!("[{}", repeated(",", 4 * mib))),
        ("quoted words in brackets", format!("[{}", repeated("\"\" ", 4 * mib))),
        ("colons in brackets", format!("[{}", repeated(": ", 4 * mib))),
        (
            "a long chain of includes",
            (0..20_000)
                .map(|set| format!("---\n{}", resource("AddressSet", &format!("s{set}"), &format!("{{ include: s{} }}", set + 1))))
                .collect(),
        ),
        (
            "sets that include all before them",
            (0..300)
                .map(|set| {
                    format!(
                        "---\n{}",
                        resource(
                            "AddressSet",
                            &format!("s{set}"),
                            &format!(
                                "{{ addresses: 10.0.{}.{}, include: [{}] }}",
                                set / 100,
                                set % 100 * 2,
                                (0..=set + 1).map(|other| format!("s{other},")).collect::<String>()
                            )
                        )
                    )
                })
                .collect(),
        ),
    ];
    texts.map(|(name, text)| (name.to_owned(), text)).into()
}
