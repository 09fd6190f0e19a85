//! Compiling grows with the policy and not with its square.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Duration;

use policy::check::Checked;
use policy::{Sources, compile, load};

/// Twice the policy may take this many times as long; a quadratic step would take four.
const LINEAR: f64 = 3.2;
/// There are four times as many pairs of zones; rules that multiplied with them would take eight times as long.
const PAIRS: f64 = 6.0;

#[test]
fn rules_of_every_kind() {
    grows_with(10_000, LINEAR, |size| {
        let mut text = base() + &policy("rules");
        for at in 0..size {
            let (host, port) = (Ipv4Addr::from_bits((10 << 24) + at as u32), 1 + at % 60_000);
            // Runs that collapse, rules that do not, rules of many zones in between.
            let _ = match at % 100 {
                0 => writeln!(text, "    - {{ name: r{at}, from: any, to: any, sources: {host}, action: drop, log: true }}"),
                1..10 => writeln!(
                    text,
                    "    - {{ name: r{at}, from: [lan, guest], to: wan, destinations: {host}/32, services: [tcp, udp], action: reject }}"
                ),
                10..50 => writeln!(text, "    - {{ name: r{at}, from: guest, to: wan, services: tcp/{port}-65535, action: accept }}"),
                _ => writeln!(text, "    - {{ name: r{at}, from: lan, to: wan, sources: {host}, services: tcp/{port}, action: accept }}"),
            };
        }
        text
    });
}

#[test]
fn addresses_of_a_set() {
    grows_with(100_000, LINEAR, |size| {
        let mut text = base();
        // Every other one, so that none can be joined to its neighbour.
        let addresses: Vec<String> = (0..size).map(|at| Ipv4Addr::from_bits((1 << 24) + 2 * at as u32).to_string()).collect();
        let _ = write!(
            text,
            "---\napiVersion: portcullis/v1\nkind: AddressSet\nmetadata: {{ name: many }}\nspec:\n  addresses: [{}]\n",
            addresses.join(", ")
        );
        text += &policy("rules");
        text += "    - { name: blocked, from: any, to: any, sources: many, action: drop }\n";
        text
    });
}

#[test]
fn zones_that_all_talk_to_each_other() {
    grows_with(60, PAIRS, |size| {
        let mut text = base();
        for at in 0..size {
            let _ = write!(text, "---\napiVersion: portcullis/v1\nkind: Zone\nmetadata: {{ name: z{at} }}\nspec: {{}}\n");
            let spec = format!("{{ zone: z{at}, addresses: [10.{at}.0.1/24] }}");
            let _ = write!(text, "---\napiVersion: portcullis/v1\nkind: Interface\nmetadata: {{ name: port{at} }}\nspec: {spec}\n");
        }
        text += &policy("rules");
        for at in 0..10 * size {
            let _ = writeln!(text, "    - {{ name: r{at}, from: any, to: any, services: tcp/{}, action: accept }}", at + 1);
        }
        text
    });
}

#[test]
fn routes_and_port_forwards() {
    grows_with(4_000, LINEAR, |size| {
        let mut text = base();
        for at in 0..size {
            let net = Ipv4Addr::from_bits((10 << 24) + 16 * at as u32);
            let spec = format!("{{ destination: {net}/28, via: 192.168.2.254 }}");
            let _ = write!(text, "---\napiVersion: portcullis/v1\nkind: Route\nmetadata: {{ name: route-{at} }}\nspec: {spec}\n");
        }
        text += &policy("forwards").replace("FirewallPolicy", "NatPolicy");
        for at in 0..size {
            let host = Ipv4Addr::from_bits((10 << 24) + 16 * at as u32 + 1);
            let _ = writeln!(text, "    - {{ name: f{at}, type: portForward, from: wan, services: tcp/{}, toAddress: {host} }}", 1000 + at);
        }
        text
    });
}

fn base() -> String {
    include_str!("../cases/base.yaml").to_owned()
}

fn policy(name: &str) -> String {
    format!("---\napiVersion: portcullis/v1\nkind: FirewallPolicy\nmetadata: {{ name: {name} }}\nspec:\n  rules:\n")
}

fn grows_with(size: usize, most: f64, text: impl Fn(usize) -> String) {
    // One at a time, or they would push each other out of the caches.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let checked = |size| load(&Sources::single("config.yaml", text(size))).unwrap_or_else(|problems| panic!("{problems}"));
    let (half, whole) = (checked(size / 2), checked(size));
    let (half, whole) = (best(&half), best(&whole));
    println!("{half:?} for {}, {whole:?} for {size}", size / 2);
    assert!(whole.as_secs_f64() < most * half.as_secs_f64().max(0.002), "{half:?} became {whole:?} with twice the size");
    assert!(whole < Duration::from_secs(5), "{whole:?}");
}

/// The least of several, in processor time: what else the machine does must not count.
fn best(checked: &Checked) -> Duration {
    let once = || {
        let start = processor_time();
        let digest = compile(checked).digest();
        assert!(!digest.0.is_empty());
        processor_time() - start
    };
    (0..4).map(|_| once()).min().unwrap_or_default()
}

/// Of this thread: the first field of `schedstat`, in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
