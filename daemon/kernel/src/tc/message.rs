//! The messages of traffic control (include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h).

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Filter, Key};
use crate::Error;
use crate::netlink::{Attributes, Messages, Talk};

/// The handle of our root: nobody's by chance.
pub const OURS: u32 = 0x7070_0000;
pub const ROOT: u32 = 0xffff_ffff;
/// Where `ingress` and `clsact` hang.
pub const AT_INGRESS: u32 = 0xffff_fff1;
/// The parent of filters on the ingress, of both kinds.
pub const INGRESS: u32 = 0xffff_fff2;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

mod u32_ {
    pub const CLASSID: u16 = 1;
    pub const SEL: u16 = 5;
    pub const ACT: u16 = 7;
}

mod htb {
    pub const PARMS: u16 = 1;
    pub const INIT: u16 = 2;
    pub const DIRECT_QLEN: u16 = 5;
    pub const RATE64: u16 = 6;
    pub const CEIL64: u16 = 7;
}

const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    pub index: u32,
    pub handle: u32,
    pub parent: u32,
    pub kind: String,
}

pub struct Tc {
    talk: Talk,
    out: Messages,
    /// Whether the kernel has fq_codel; asked once.
    fq_codel: Option<bool>,
}

/// `struct tcmsg`
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    index: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

impl Head {
    const LENGTH: usize = 20;

    fn bytes(self) -> [u8; Head::LENGTH] {
        let mut out = [0; Head::LENGTH];
        for (place, word) in [self.index, self.handle, self.parent, self.info].into_iter().enumerate() {
            out[4 + 4 * place..8 + 4 * place].copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    fn read(body: &[u8]) -> Option<Head> {
        let word = |place: usize| Some(u32::from_ne_bytes(body.get(4 + 4 * place..8 + 4 * place)?.try_into().ok()?));
        Some(Head { index: word(0)?, handle: word(1)?, parent: word(2)?, info: word(3)? })
    }
}

impl Tc {
    pub fn open() -> Result<Tc, Error> {
        Ok(Tc { talk: Talk::open(libc::NETLINK_ROUTE)?, out: Messages::default(), fq_codel: None })
    }

    /// Index by name.
    pub fn links(&mut self) -> Result<BTreeMap<String, u32>, Error> {
        const IFNAME: u16 = libc::IFLA_IFNAME;
        let mut links = BTreeMap::new();
        self.dump("the links", libc::RTM_GETLINK, &[0; 16], |body| {
            let index = body.get(4..8).and_then(|index| index.try_into().ok()).map(u32::from_ne_bytes);
            let name = Attributes(body.get(16..).unwrap_or(&[])).text(IFNAME);
            links.extend(name.map(str::to_owned).zip(index));
        })?;
        Ok(links)
    }

    pub fn make_ifb(&mut self, name: &str) -> Result<(), Error> {
        const UP: u32 = libc::IFF_UP as u32;
        const LINKINFO: u16 = libc::IFLA_LINKINFO;
        let mut head = [0; 16];
        head[8..12].copy_from_slice(&UP.to_ne_bytes());
        head[12..16].copy_from_slice(&UP.to_ne_bytes());
        let made = self.change(&format!("link {name}"), libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head, |message| {
            message.text(libc::IFLA_IFNAME, name);
            message.nest(LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "ifb"));
        });
        accept(made, libc::EEXIST)
    }

    pub fn remove_link(&mut self, name: &str, index: u32) -> Result<(), Error> {
        let mut head = [0; 16];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        accept(self.change(&format!("removal of link {name}"), libc::RTM_DELLINK, 0, &head, |_| {}), libc::ENODEV)
    }

    pub fn qdiscs(&mut self) -> Result<Vec<Qdisc>, Error> {
        let mut qdiscs = Vec::new();
        self.dump("the queueing disciplines", libc::RTM_GETQDISC, &Head::default().bytes(), |body| {
            let (Some(head), attributes) = (Head::read(body), attributes(body)) else { return };
            let kind = attributes.text(KIND).unwrap_or_default().to_owned();
            qdiscs.push(Qdisc { index: head.index, handle: head.handle, parent: head.parent, kind });
        })?;
        Ok(qdiscs)
    }

    /// Rates in bytes a second, by the minor number of our classes.
    pub fn classes(&mut self, index: u32) -> Result<BTreeMap<u16, u64>, Error> {
        let mut classes = BTreeMap::new();
        self.dump("the classes", libc::RTM_GETTCLASS, &Head { index, ..Head::default() }.bytes(), |body| {
            let Some(head) = Head::read(body).filter(|head| head.handle & 0xffff_0000 == OURS) else { return };
            let options = attributes(body).inside(OPTIONS);
            let wide = options.get(htb::RATE64).and_then(|rate| rate.try_into().ok()).map(u64::from_ne_bytes);
            let plain =
                options.get(htb::PARMS).and_then(|parms| parms.get(8..12)).and_then(|rate| rate.try_into().ok()).map(u32::from_ne_bytes);
            classes.extend(wide.or(plain.map(u64::from)).map(|rate| (head.handle as u16, rate)));
        })?;
        Ok(classes)
    }

    /// Those that say something we would say; a redirection to anybody but `to` is of class 0xffff.
    pub fn filters(&mut self, index: u32, parent: u32, to: Option<u32>) -> Result<BTreeSet<Filter>, Error> {
        let mut filters = BTreeSet::new();
        self.each_filter(index, parent, |head, options| filters.extend(filter(head, options, to)))?;
        Ok(filters)
    }

    pub fn has_filters(&mut self, index: u32, parent: u32) -> Result<bool, Error> {
        let mut any = false;
        self.each_filter(index, parent, |_, _| any = true)?;
        Ok(any)
    }

    fn each_filter(&mut self, index: u32, parent: u32, mut visit: impl FnMut(Head, Attributes<'_>)) -> Result<(), Error> {
        let head = Head { index, parent, ..Head::default() }.bytes();
        self.dump("the classifiers", libc::RTM_GETTFILTER, &head, |body| {
            if let Some(head) = Head::read(body).filter(|head| head.index == index) {
                visit(head, attributes(body).inside(OPTIONS));
            }
        })
    }

    pub fn add_root(&mut self, port: &str, index: u32) -> Result<(), Error> {
        let head = Head { index, handle: OURS, parent: ROOT, info: 0 }.bytes();
        self.change(&format!("rates on {port}"), libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &head, |message| {
            message.text(KIND, "htb");
            message.nest(OPTIONS, |options| {
                // struct tc_htb_glob: version, rate2quantum, default class (none: unlimited), debug, direct packets
                options.put(htb::INIT, &words(&[3, 10, 0, 0, 0]));
                options.put(htb::DIRECT_QLEN, &1000u32.to_ne_bytes());
            });
        })
    }

    pub fn remove_root(&mut self, port: &str, index: u32) -> Result<(), Error> {
        let head = Head { index, handle: OURS, parent: ROOT, info: 0 }.bytes();
        self.change(&format!("removal of the rates on {port}"), libc::RTM_DELQDISC, 0, &head, |_| {})
    }

    /// A class and its queue; `rate` in bytes a second.
    pub fn add_class(&mut self, port: &str, index: u32, id: u16, rate: u64) -> Result<(), Error> {
        self.put_class(port, index, id, rate, libc::NLM_F_CREATE | libc::NLM_F_EXCL)?;
        self.put_queue(port, index, id, rate)
    }

    /// One that is there gets another rate. A queue that is fair keeps what is in it; a short one is as long as its rate asks for.
    pub fn change_class(&mut self, port: &str, index: u32, id: u16, rate: u64) -> Result<(), Error> {
        self.put_class(port, index, id, rate, 0)?;
        let class = OURS | u32::from(id);
        let is_short = |qdisc: &Qdisc| qdisc.index == index && qdisc.parent == class && qdisc.kind == "bfifo";
        if self.qdiscs()?.iter().any(is_short) { self.put_queue(port, index, id, rate) } else { Ok(()) }
    }

    fn put_class(&mut self, port: &str, index: u32, id: u16, rate: u64, flags: i32) -> Result<(), Error> {
        let head = Head { index, handle: OURS | u32::from(id), parent: OURS, info: 0 }.bytes();
        self.change(&what_rate(port, id), libc::RTM_NEWTCLASS, flags, &head, |message| {
            message.text(KIND, "htb");
            message.nest(OPTIONS, |options| {
                options.put(htb::PARMS, &htb_parameters(rate));
                if rate > u64::from(u32::MAX) {
                    options.put(htb::RATE64, &rate.to_ne_bytes());
                    options.put(htb::CEIL64, &rate.to_ne_bytes());
                }
            });
        })
    }

    /// Fair queues that drop early where the kernel has them; else a short one. The default would be a thousand packets, which at
    /// a megabit a second are twelve seconds.
    fn put_queue(&mut self, port: &str, index: u32, id: u16, rate: u64) -> Result<(), Error> {
        const TENTH: u64 = 10;
        // Two of the largest segments that the box's own sockets hand down in one piece.
        const LEAST: u64 = 128 << 10;
        let what = &what_rate(port, id);
        let head = Head { index, handle: 0, parent: OURS | u32::from(id), info: 0 }.bytes();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        if self.fq_codel != Some(false) {
            let made = self.change(what, libc::RTM_NEWQDISC, flags, &head, |message| message.text(KIND, "fq_codel"));
            self.fq_codel = Some(!matches!(&made, Err(error) if error.errno() == Some(libc::ENOENT)));
            if self.fq_codel == Some(true) {
                return made;
            }
        }
        let limit = (rate / TENTH).clamp(LEAST, u64::from(u32::MAX)) as u32;
        self.change(what, libc::RTM_NEWQDISC, flags, &head, |message| {
            message.text(KIND, "bfifo");
            message.put(OPTIONS, &limit.to_ne_bytes());
        })
    }

    /// Leads to the filter's class, or with class 0 to the link `to`.
    pub fn add_filter(&mut self, port: &str, index: u32, parent: u32, filter: &Filter, to: Option<u32>) -> Result<(), Error> {
        let info = u32::from(filter.preference) << 16 | u32::from(filter.protocol.to_be());
        let head = Head { index, handle: 0, parent, info }.bytes();
        let what = format!("a classifier of clients on {port}");
        self.change(&what, libc::RTM_NEWTFILTER, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head, |message| {
            message.text(KIND, "u32");
            message.nest(OPTIONS, |options| {
                match to {
                    None => options.put(u32_::CLASSID, &(OURS | u32::from(filter.class)).to_ne_bytes()),
                    Some(to) => options.nest(u32_::ACT, |actions| {
                        actions.nest(1, |action| {
                            action.text(ACT_KIND, "mirred");
                            action.nest(ACT_OPTIONS, |options| options.put(MIRRED_PARMS, &redirection(to)));
                        });
                    }),
                }
                options.put(u32_::SEL, &selector(&filter.keys));
            });
        })
    }

    /// All of this preference.
    pub fn remove_filters(&mut self, port: &str, index: u32, parent: u32, preference: u16, protocol: u16) -> Result<(), Error> {
        let info = u32::from(preference) << 16 | u32::from(protocol.to_be());
        let head = Head { index, handle: 0, parent, info }.bytes();
        let what = format!("removal of classifiers on {port}");
        accept(self.change(&what, libc::RTM_DELTFILTER, 0, &head, |message| message.text(KIND, "u32")), libc::ENOENT)
    }

    pub fn add_ingress(&mut self, port: &str, index: u32) -> Result<(), Error> {
        let head = Head { index, handle: 0xffff_0000, parent: AT_INGRESS, info: 0 }.bytes();
        self.change(&format!("the ingress of {port}"), libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head, |message| {
            message.text(KIND, "ingress");
        })
    }

    pub fn remove_ingress(&mut self, port: &str, index: u32) -> Result<(), Error> {
        let head = Head { index, handle: 0xffff_0000, parent: AT_INGRESS, info: 0 }.bytes();
        self.change(&format!("removal of the ingress of {port}"), libc::RTM_DELQDISC, 0, &head, |_| {})
    }

    fn change(&mut self, what: &str, kind: u16, flags: i32, head: &[u8], write: impl FnOnce(&mut Messages)) -> Result<(), Error> {
        let seq = self.talk.sequence(1);
        self.out.clear();
        self.out.begin(kind, (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16, seq, head);
        write(&mut self.out);
        self.out.end();
        let (_, fault) = self.talk.ask(self.out.bytes(), seq).map_err(Error::io(format!("change {what}")))?;
        if fault.errno == 0 { Ok(()) } else { Err(fault.refused(what)) }
    }

    fn dump(&mut self, what: &str, kind: u16, head: &[u8], mut visit: impl FnMut(&[u8])) -> Result<(), Error> {
        let seq = self.talk.sequence(1);
        self.out.clear();
        self.out.begin(kind, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, seq, head);
        self.out.end();
        self.talk.dump(self.out.bytes(), seq, |_, body| visit(body)).map_err(Error::io(format!("read {what}")))
    }
}

fn what_rate(port: &str, id: u16) -> String {
    format!("the rate of mapping {id} on {port}")
}

/// This refusal means that it is done already.
fn accept(outcome: Result<(), Error>, done: i32) -> Result<(), Error> {
    match outcome {
        Err(error) if error.errno() == Some(done) => Ok(()),
        other => other,
    }
}

fn attributes(body: &[u8]) -> Attributes<'_> {
    Attributes(body.get(Head::LENGTH..).unwrap_or(&[]))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct tc_htb_opt`: rate and ceiling alike, and a burst of 20 ms.
fn htb_parameters(rate: u64) -> Vec<u8> {
    const ETHERNET: u8 = 1; // TC_LINKLAYER_ETHERNET: then the kernel asks for no table of rates
    const TICK: u64 = 64; // nanoseconds, PSCHED_SHIFT
    let plain = u32::try_from(rate).unwrap_or(u32::MAX);
    let mut ratespec = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    ratespec.extend_from_slice(&plain.to_ne_bytes());
    let burst = (rate / 50).max(3_000);
    let ticks = (u128::from(burst) * 1_000_000_000 / u128::from(rate) / u128::from(TICK)).min(u128::from(u32::MAX)) as u32;
    let quantum = (rate / 100).clamp(1_514, 60_000) as u32;
    [ratespec.clone(), ratespec, words(&[ticks, ticks, quantum, 0, 0])].concat()
}

/// `struct tc_u32_sel` and its keys.
fn selector(keys: &[Key]) -> Vec<u8> {
    const TERMINAL: u8 = 1; // TC_U32_TERMINAL: a match is a decision
    let mut out = vec![TERMINAL, 0, keys.len() as u8, 0];
    out.extend_from_slice(&[0; 12]);
    for key in keys {
        out.extend_from_slice(&key.mask.to_be_bytes());
        out.extend_from_slice(&key.value.to_be_bytes());
        out.extend_from_slice(&key.offset.to_ne_bytes());
        out.extend_from_slice(&0i32.to_ne_bytes());
    }
    out
}

/// `struct tc_mirred`: index, capabilities, action, two counts, what to do, and where.
fn redirection(to: u32) -> Vec<u8> {
    const STOLEN: u32 = 4; // TC_ACT_STOLEN
    const EGRESS_REDIRECT: u32 = 1; // TCA_EGRESS_REDIR
    words(&[0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to])
}

/// None for the hash tables that u32 lists as well, and for filters of others.
fn filter(head: Head, options: Attributes<'_>, to: Option<u32>) -> Option<Filter> {
    let sel = options.get(u32_::SEL)?;
    let word = |at: usize| sel.get(at..at + 4).and_then(|word| <[u8; 4]>::try_from(word).ok());
    let keys = (0..usize::from(*sel.get(2)?)).map(|place| {
        let at = 16 + 16 * place;
        Some(Key {
            mask: u32::from_be_bytes(word(at)?),
            value: u32::from_be_bytes(word(at + 4)?),
            offset: i32::from_ne_bytes(word(at + 8)?),
        })
    });
    let classid = options.get(u32_::CLASSID).and_then(|class| class.try_into().ok()).map(u32::from_ne_bytes);
    let action = options.inside(u32_::ACT).inside(1);
    let redirected =
        action.inside(ACT_OPTIONS).get(MIRRED_PARMS).and_then(|parms| parms.get(24..28)).and_then(|index| index.try_into().ok());
    let class = match (classid, redirected.map(u32::from_ne_bytes)) {
        (Some(class), _) => class as u16,
        (None, Some(index)) if Some(index) == to => 0,
        _ => u16::MAX,
    };
    Some(Filter {
        preference: (head.info >> 16) as u16,
        protocol: u16::from_be(head.info as u16),
        keys: keys.collect::<Option<_>>()?,
        class,
    })
}
