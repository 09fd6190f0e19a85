//! Mappings go out to a table and come back the same, or nothing comes back at all.

use policy::csv::{COLUMNS, export, import};
use policy::model::{CaptureMode, ClientTerm, Config, DnsMode, Mac, ProxyMapping, Resource, RuleSchedule, TimeOfDay, Weekday};
use policy::name::Name;
use policy::read::read;
use policy::{Origin, Sources};
use proptest::prelude::*;

const POLICY: &str = "# The house
apiVersion: portcullis/v1
kind: System
metadata: { name: gate }
spec: { hostname: gate, admin: { zones: lan } }
---
apiVersion: portcullis/v1
kind: Zone
metadata: { name: lan }
spec: { proxied: true }
---
apiVersion: portcullis/v1
kind: Interface
metadata: { name: lan0 }
spec: { zone: lan, addresses: [10.0.0.1/8, \"fd00:2::1/64\"] }
---
apiVersion: portcullis/v1
kind: Upstream
metadata: { name: socks }
spec: { type: socks5, address: 203.0.113.10, port: 1080 }
---
apiVersion: portcullis/v1
kind: UpstreamGroup
metadata: { name: either }
spec: { members: socks }
---
# This one has a comment of its own.
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: { name: before }
spec:
  clients: 10.0.0.7 # the old printer
  upstream: socks
";

fn sources() -> Sources {
    Sources::single("a.yaml", POLICY)
}

fn said(table: &str) -> String {
    import(table, &sources()).expect_err("it is refused").to_string()
}

#[test]
fn a_table_becomes_mappings_and_leaves_the_rest_of_the_text_alone() {
    let table = "clients;name;upstream;down_mbit;dns;enabled;description\n\
                 10.0.0.8 fd00:2::8 02:00:00:00:00:08;desk;socks;100;proxied;TRUE;\"Desk; by the window\"\n\
                 10.0.0.7;before;socks;;;;\n";
    let imported = import(table, &sources()).unwrap();
    assert_eq!((imported.added.len(), imported.changed.len(), imported.unchanged), (1, 0, 1));
    let added = "---
apiVersion: portcullis/v1
kind: ProxyMapping
metadata: { name: desk, description: \"Desk; by the window\" }
spec:
  clients: [10.0.0.8, \"fd00:2::8\", \"02:00:00:00:00:08\"]
  upstream: socks
  dns: proxied
  downMbit: 100
";
    assert_eq!(imported.sources.0["a.yaml"], format!("{POLICY}{added}"));
}

#[test]
fn a_mapping_of_the_same_name_is_replaced_where_it_stands() {
    let imported = import("name,clients,group\nbefore,10.0.0.9,either\n", &sources()).unwrap();
    assert_eq!(imported.changed.len(), 1);
    let text = &imported.sources.0["a.yaml"];
    assert!(text.starts_with("# The house\n") && text.ends_with("  clients: [10.0.0.9]\n  group: either\n"), "{text}");
    assert_eq!(text.matches("name: before").count(), 1);
}

#[test]
fn every_bad_line_is_named_and_nothing_is_imported() {
    let table = "name,clients,upstream,group,udp,dns,doh_url,down_mbit,schedule,description
fine,10.0.0.10,socks,,,,,,,
No name,10.0.0.11,socks,,,,,,,
bad-words,10.0.0.300 desk,socks,,maybe,off,https://x/,fast,lun 8-9,
fine,10.0.0.12,socks,,,,,,,
short,10.0.0.13
unknown,10.0.0.14,sock,,,,,,,
taken,10.0.0.7,socks,,,,,,,
two-ways,10.0.0.15,socks,either,,,,,,
zero,10.0.0.16,socks,,,,,0,,
elsewhere,172.16.0.1,socks,,,,,,mon-tue 08:00,
\"broken,10.0.0.17,socks,,,,,,,
";
    let expected = "\
mappings.csv:3: name: \"No name\" is not a name; use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit
mappings.csv:4: clients: \"10.0.0.300\" is not an IP address; write one like 192.168.2.10 or 2001:db8::10
mappings.csv:4: clients: \"desk\" is not an IP address; write one like 192.168.2.10 or 2001:db8::10
mappings.csv:4: udp: \"maybe\" is not possible here; write one of: true, false
mappings.csv:4: dns: \"off\" is not possible here; write one of: drop, proxied, dohStub
mappings.csv:4: doh_url: this belongs to dns `dohStub`; empty the cell or change the column dns
mappings.csv:4: down_mbit: \"fast\" is not a whole number; write one, or leave the cell empty for no limit
mappings.csv:4: schedule: \"lun\" is not a day; write mon, tue, wed, thu, fri, sat or sun; a schedule is written like `mon tue 08:00-18:00`
mappings.csv:5: name: a mapping named fine stands on line 2 already; keep one of them
mappings.csv:6: the line has 2 cells and the first line names 10 columns; is a separator or a quotation mark missing?
mappings.csv:7: unknown, upstream: there is no Upstream sock; add one with this name or name another; did you mean \"socks\"?
mappings.csv:8: taken, clients: 10.0.0.7 is a client of ProxyMapping before already (10.0.0.7, a.yaml:28); a client has one way out: remove it from one of them
mappings.csv:9: two-ways, group: a mapping has one way out; keep `upstream` or `group`
mappings.csv:10: zero, down_mbit: 0 is not possible; write 1 to 100000 megabits a second, or leave it out for no limit
mappings.csv:11: schedule: \"mon-tue\" is not a day; write mon, tue, wed, thu, fri, sat or sun; a schedule is written like `mon tue 08:00-18:00`
mappings.csv:12: the line has 1 cells and the first line names 10 columns; is a separator or a quotation mark missing?
";
    assert_eq!(said(table), expected);
}

#[test]
fn a_first_line_that_names_no_columns_is_said() {
    assert!(said("10.0.0.8,desk\n").contains("mappings.csv:1: unknown column \"10.0.0.8\"; the columns are name, clients"));
    assert!(said("name,upstrem\n").contains("did you mean \"upstream\"?"));
    assert!(said("name,upstream\n").contains("the column `clients` is missing"));
    assert!(said("").contains("the column `name` is missing"));
    assert!(said("name,clients,name\n").contains("stands here twice"));
}

#[test]
fn what_was_wrong_with_the_policy_before_is_not_the_tables_fault() {
    let mut broken = sources();
    broken
        .0
        .get_mut("a.yaml")
        .unwrap()
        .push_str("---\napiVersion: portcullis/v1\nkind: Interface\nmetadata: { name: wan0 }\nspec: { zone: wan }\n");
    assert_eq!(import("name,clients,upstream\ndesk,10.0.0.8,socks\n", &broken).map(|imported| imported.added.len()), Ok(1));
}

#[test]
fn no_cell_is_a_formula() {
    let formula = "name,clients,upstream,description\ndesk,10.0.0.8,socks,\"=HYPERLINK(\"\"http://x\"\")\"\n";
    let imported = import(formula, &sources()).unwrap();
    let table = export(&read(&imported.sources).0);
    assert!(table.contains("\"'=HYPERLINK"), "{table}");
    assert_eq!(import(&table, &imported.sources).map(|again| again.unchanged), Ok(2));
}

fn mapping(at: usize) -> impl Strategy<Value = (ProxyMapping, Option<String>)> {
    let clients = prop::sample::subsequence(
        vec![
            format!("10.1.{at}.0/25"),
            format!("10.1.{at}.200"),
            format!("fd00:2::{:x}:0/112", at + 1),
            format!("fd00:2::{:x}", at + 0x1_000),
            Mac([2, 0, 0, 0, 0, at as u8]).to_string(),
        ],
        1..=5,
    );
    let clients = clients.prop_map(|words| words.iter().map(|word| word.parse::<ClientTerm>().unwrap()).collect());
    let server = prop_oneof![Just(None), Just(Some("192.0.2.53".parse().unwrap())), Just(Some("2001:db8::53".parse().unwrap()))];
    let dns = prop_oneof![
        Just(DnsMode::Drop {}),
        Just(DnsMode::Proxied {}),
        server.prop_map(|doh_server| DnsMode::DohStub {
            doh_url: "https://dns.example.net/dns-query".into(),
            doh_server,
            doh_authority: None
        }),
    ];
    let days = prop::sample::subsequence(vec![Weekday::Mon, Weekday::Thu, Weekday::Sun], 0..=3);
    let schedule = (days, 0..700_u16, 701..=1440_u16)
        .prop_map(|(days, from, until)| RuleSchedule { days, from: TimeOfDay(from), until: TimeOfDay(until) })
        .prop_filter("always", |schedule| !(schedule.days.is_empty() && schedule.from.0 == 0 && schedule.until.0 == 1440));
    let limits = (
        prop::option::of(1..=100_000_u32),
        prop::option::of(1..=100_000_u32),
        prop::option::of(1..=1000_u64),
        prop::option::of(1000..=100_000_u64),
    );
    let description = prop::option::of("[ -~äß→]{1,40}");
    (clients, any::<[bool; 4]>(), dns, limits, prop::option::of(schedule), description).prop_map(
        |(clients, [grouped, tproxy, udp, enabled], dns, (down_mbit, up_mbit, daily_mb, monthly_mb), schedule, description)| {
            let (upstream, group) = (Name::try_from("socks").unwrap(), Name::try_from("either").unwrap());
            let mapping = ProxyMapping {
                clients,
                upstream: (!grouped).then_some(upstream),
                group: grouped.then_some(group),
                tcp: if tproxy { CaptureMode::Tproxy } else { CaptureMode::Redirect },
                udp,
                dns,
                down_mbit,
                up_mbit,
                daily_mb,
                monthly_mb,
                schedule,
                enabled,
            };
            (mapping, description)
        },
    )
}

fn mappings() -> impl Strategy<Value = Vec<(ProxyMapping, Option<String>)>> {
    (1..8_usize).prop_flat_map(|count| (0..count).map(mapping).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_exported_comes_back_the_same(mappings in mappings()) {
        let mut config = Config::default();
        for (at, (spec, description)) in mappings.into_iter().enumerate() {
            let name = Name::try_from(["1e3", "null", "desk", "0", "true", "a-b"].get(at).copied().unwrap_or("last")).unwrap();
            let origin = Origin { file: String::new(), line: 0 };
            config.proxy_mappings.insert(name, Resource { origin, description, spec });
        }
        let table = export(&config);
        let imported = import(&table, &sources());
        prop_assert!(imported.is_ok(), "{}\n{table}", imported.err().unwrap_or_default());
        let (mut back, problems) = read(&imported.unwrap().sources);
        prop_assert!(problems.is_empty(), "{problems}");
        back.proxy_mappings.remove(&Name::try_from("before").unwrap());
        prop_assert_eq!(export(&back), table);
        for (name, resource) in &config.proxy_mappings {
            let found = &back.proxy_mappings[name];
            prop_assert_eq!((&found.spec, &found.description), (&resource.spec, &resource.description));
        }
    }

    #[test]
    fn any_table_is_answered(words in prop::collection::vec(
        prop_oneof![prop::sample::select(COLUMNS.to_vec()).prop_map(str::to_owned), "\\PC{0,5}", Just(",".to_owned()), Just("\n".to_owned()), Just("\"".to_owned())], 0..60)
    ) {
        for head in ["", "name,clients,upstream\n"] {
            let text = format!("{head}{}", words.concat());
            if let Ok(imported) = import(&text, &sources()) {
                prop_assert!(policy::load(&imported.sources).is_ok());
            }
        }
    }
}
