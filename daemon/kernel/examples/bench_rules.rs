//! Rulesets into the kernel, by our netlink and by `nft -f`, side by side. Run by `scripts/bench rules`.
//!
//! Every load goes into a network namespace of its own, which did not hold anything before. Both sides load the same
//! ruleset; the rounds are interleaved and their order turns, and what is reported is the median of the rounds' ratios.
//! Beside the time on the wall stands the processor time, in user space and in the kernel, which other work on the machine
//! disturbs less.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Instant;

use kernel::Nft;
use kernel::nft::NewElement;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use policy::ruleset::*;

const ROUNDS: usize = 7;

fn main() {
    println!("kernel {}, {}, {} rounds, medians (least to most)", run("uname", &["-r"]), run("nft", &["--version"]), ROUNDS);
    println!(
        "milliseconds on the wall, and in brackets of processor time in user space and in the kernel; then how many times as much nft takes"
    );
    println!("{:<44}{:>26}{:>28}   {:<26}of the processor", "", "ours", "nft", "on the wall");
    for count in [1_000, 10_000, 50_000] {
        compare(&format!("{count} rules, into an empty kernel"), &rules(count));
    }
    for count in [10_000, 100_000] {
        compare(&format!("{count} elements of a map with verdicts"), &elements(count));
    }
    for count in [1_000, 10_000] {
        replace(count);
    }
    one_element(100_000);
}

/// The same ruleset into two empty namespaces.
fn compare(what: &str, ruleset: &Ruleset) {
    let script = ruleset.to_string();
    let mut rounds = Rounds::default();
    for round in 0..ROUNDS {
        let ours = || {
            alone(|| {
                let mut nft = Nft::open().expect("netlink");
                time(1, || nft.apply(ruleset).expect("applied"))
            })
        };
        let theirs = || alone(|| time(1, || nft_load(&script)));
        rounds.add(round, ours, theirs);
    }
    rounds.tell(what);
}

/// A ruleset over the one that stands, as a commit does it.
fn replace(count: u32) {
    let ruleset = rules(count);
    let script = ruleset.script();
    let mut rounds = Rounds::default();
    for round in 0..ROUNDS {
        let ours = || {
            alone(|| {
                let mut nft = Nft::open().expect("netlink");
                nft.apply(&ruleset).expect("applied");
                time(1, || nft.apply(&ruleset).expect("applied"))
            })
        };
        let theirs = || {
            alone(|| {
                nft_load(&script);
                time(1, || nft_load(&script))
            })
        };
        rounds.add(round, ours, theirs);
    }
    rounds.tell(&format!("{count} rules, over {count} that stand"));
    read_back(count, &ruleset);
}

/// What proves the commit; nft has nothing of the kind, so its listing stands beside it.
fn read_back(count: u32, ruleset: &Ruleset) {
    let mut rounds = Rounds::default();
    alone(|| {
        let mut nft = Nft::open().expect("netlink");
        nft.apply(ruleset).expect("applied");
        for round in 0..ROUNDS {
            let listed = || {
                time(1, || {
                    run("nft", &["list", "ruleset"]);
                })
            };
            rounds.add(round, || time(1, || assert!(nft.differences(ruleset).expect("read").is_empty())), listed);
        }
    });
    rounds.tell(&format!("{count} rules, read back and compared (nft: list)"));
}

/// One more element into a big map that stands.
fn one_element(count: u32) {
    const EACH: u32 = 50;
    let ruleset = elements(count);
    let mut rounds = Rounds::default();
    alone(|| {
        let mut nft = Nft::open().expect("netlink");
        nft.apply(&ruleset).expect("applied");
        let mut next = count;
        for round in 0..ROUNDS {
            let first = next;
            next += 2 * EACH;
            let ours = || {
                time(EACH, || {
                    for number in first..first + EACH {
                        nft.add_elements("portcullis", "clients", &[new_element(number)]).expect("added");
                    }
                })
            };
            let theirs = || {
                time(EACH, || {
                    for number in first + EACH..first + 2 * EACH {
                        let element = format!("{{ {} : accept }}", address(number));
                        run("nft", &["add", "element", "inet", "portcullis", "clients", &element]);
                    }
                })
            };
            rounds.add(round, ours, theirs);
        }
    });
    rounds.tell(&format!("one element into a map of {count}"));
}

/// Rules as a policy without any short cut would have them: ports, addresses, a counter, a verdict, a name.
fn rules(count: u32) -> Ruleset {
    let byte = |field: Field, byte: u8| Part::Match { field, op: Op::Eq, to: Operand::One(Span::One(Datum::Byte(byte))) };
    let rules = (0..count).map(|number| {
        let parts = vec![
            byte(Field::NfProto, 2),
            Part::Match { field: Field::Ip4Saddr, op: Op::Eq, to: Operand::One(Span::One(Datum::V4(address(number)))) },
            byte(Field::L4Proto, 6),
            Part::Match { field: Field::Dport, op: Op::Eq, to: Operand::One(Span::One(Datum::Port((number % 60_000) as u16 + 1))) },
            Part::Counter,
            Part::Verdict(Verdict::Accept),
        ];
        Rule { comment: Some(format!("lan-out/rule-{number}")), ..Rule::of(parts) }
    });
    let chain = Chain { base: None, rules: rules.collect() };
    ruleset(BTreeMap::new(), BTreeMap::from([("checks".to_owned(), chain)]))
}

fn elements(count: u32) -> Ruleset {
    let elements = (0..count).map(|number| Element {
        key: vec![Span::One(Datum::V4(address(number)))],
        to: Some(Target::Verdict(Verdict::Accept)),
        source: None,
    });
    let map = Set {
        key: vec![Field::Ip4Saddr],
        maps_to: Some(Maps::Verdict),
        interval: false,
        timeout: false,
        counters: false,
        elements: elements.collect(),
        comment: None,
    };
    ruleset(BTreeMap::from([("clients".to_owned(), map)]), BTreeMap::new())
}

fn ruleset(sets: BTreeMap<String, Set>, chains: BTreeMap<String, Chain>) -> Ruleset {
    Ruleset { tables: vec![Table { name: "portcullis".into(), owned: false, sets, chains }] }
}

fn new_element(number: u32) -> NewElement {
    let key = vec![Span::One(Datum::V4(address(number)))];
    NewElement { key, to: Some(Target::Verdict(Verdict::Accept)), timeout: None }
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

/// What a piece of work took.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    user: f64,
    kernel: f64,
}

#[derive(Default)]
struct Rounds {
    ours: Vec<Took>,
    theirs: Vec<Took>,
}

impl Rounds {
    /// One round; every other one begins with the other side.
    fn add(&mut self, round: usize, ours: impl FnOnce() -> Took, theirs: impl FnOnce() -> Took) {
        if round.is_multiple_of(2) {
            self.ours.push(ours());
            self.theirs.push(theirs());
        } else {
            self.theirs.push(theirs());
            self.ours.push(ours());
        }
    }

    fn tell(&self, what: &str) {
        let times = |side: &[Took]| {
            let median = |part: fn(&Took) -> f64| median(side.iter().map(part).collect());
            format!("{:.3} ({:.2}+{:.2})", median(|took| took.wall), median(|took| took.user), median(|took| took.kernel))
        };
        let ratio = |part: fn(&Took) -> f64| {
            let mut ratios: Vec<f64> = self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| part(theirs) / part(ours)).collect();
            ratios.sort_by(f64::total_cmp);
            format!("{:.1} ({:.1} to {:.1})", median(ratios.clone()), ratios[0], ratios[ratios.len() - 1])
        };
        let (wall, cpu) = (ratio(|took| took.wall), ratio(|took| took.user + took.kernel));
        println!("{what:<44}{:>26}{:>28}   {wall:<26}{cpu}", times(&self.ours), times(&self.theirs));
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Work that is done `times` over, by this thread and by programs that it starts and waits for.
fn time(times: u32, work: impl FnOnce()) -> Took {
    let cpu = || {
        let usage = |who| getrusage(who).expect("getrusage");
        let (own, programs) = (usage(UsageWho::RUSAGE_THREAD), usage(UsageWho::RUSAGE_CHILDREN));
        let millis = |time: TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
        (millis(own.user_time()) + millis(programs.user_time()), millis(own.system_time()) + millis(programs.system_time()))
    };
    let (user, kernel) = cpu();
    let start = Instant::now();
    work();
    let wall = start.elapsed().as_secs_f64() * 1e3;
    let (user_after, kernel_after) = cpu();
    let each = f64::from(times);
    Took { wall: wall / each, user: (user_after - user) / each, kernel: (kernel_after - kernel) / each }
}

/// In a network namespace of its own.
fn alone<T: Send>(story: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let story = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root, for a network namespace");
            story()
        });
        story.join().expect("the story ends well")
    })
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn nft_load(script: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is installed");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("nft ends").success());
}
