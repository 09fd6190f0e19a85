//! The packet filter: nf_tables over netlink.
//!
//! ```no_run
//! # fn story(ruleset: &policy::ruleset::Ruleset) -> Result<(), kernel::Error> {
//! let mut nft = kernel::Nft::open()?;               // held for life: it owns the tables
//! nft.apply(ruleset)?;                              // all of it, or nothing
//! assert!(nft.differences(ruleset)?.is_empty());    // the kernel holds what was meant
//! let hits = nft.counters(ruleset)?;                // by policy rule
//! # Ok(()) }
//! ```

mod batch;
mod decode;
mod differences;
mod element;
mod expr;
mod facts;
mod field;
mod monitor;
mod rule;
mod set;
mod table;
mod text;

pub use element::{HeldElement, NewElement};
pub use monitor::{Change, Monitor, Who};

use std::collections::{BTreeMap, BTreeSet};

use policy::messages::Tally;
use policy::ruleset::{Ruleset, Span};

use crate::netlink::{Attributes, Messages, Talk};
use crate::{Difference, Error};
use batch::{Batch, Trouble};
use set::{Item, Name, Shape};

/// Since Linux 6.3; libc does not name them yet.
const NFT_MSG_DESTROYTABLE: i32 = 26;
const NFT_MSG_DESTROYSETELEM: i32 = 30;

/// How often a transaction is made anew because somebody else's came between.
const ATTEMPTS: u32 = 20;

/// One netlink socket, held for life. The tables it installs with `owned` belong to it: no other program can change or
/// flush them (Linux 5.12), and when its process dies they stay (Linux 6.9) until the next `Nft` adopts them.
pub struct Nft {
    talk: Talk,
    features: Features,
    destroy: bool,
    /// The memory of the last batch, for the next one.
    messages: Messages,
    /// What the named sets that we installed look like, by table and set.
    shapes: BTreeMap<(String, String), Shape>,
}

/// What this kernel can do with tables; probed, not guessed from a version number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `owner`: only we can change our tables.
    pub owner: bool,
    /// `persist`: they outlive us.
    pub persist: bool,
}

impl Nft {
    /// Opens the socket in the calling thread's network namespace and probes the kernel.
    pub fn open() -> Result<Nft, Error> {
        let mut talk = Talk::open(libc::NETLINK_NETFILTER)?;
        let owner = table::knows_flags(&mut talk, table::OWNER);
        let persist = owner && table::knows_flags(&mut talk, table::OWNER | table::PERSIST);
        let destroy = table::knows_destroy(&mut talk);
        let features = Features { owner, persist };
        Ok(Nft { talk, features, destroy, messages: Messages::default(), shapes: BTreeMap::new() })
    }

    pub fn features(&self) -> Features {
        self.features
    }

    /// Makes the kernel hold exactly these tables, in one transaction: tables of the same name are replaced, tables that
    /// we own and that are no longer named are removed. Counters begin anew. Tables that a dead owner left are adopted.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        self.apply_instead_of(ruleset, &[])
    }

    /// The same, and in the same transaction the `inet` tables `others` go away, where they exist (a lockdown guard).
    pub fn apply_instead_of(&mut self, ruleset: &Ruleset, others: &[&str]) -> Result<(), Error> {
        self.transact(ruleset, others, true)?;
        self.shapes = shapes(ruleset);
        Ok(())
    }

    /// Lets the kernel check the ruleset as if it were applied, and changes nothing. Chains that call each other in a loop
    /// and the like show only when it is applied.
    pub fn check(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        self.transact(ruleset, &[], false)
    }

    /// Remembers the shapes of a ruleset that an earlier process installed, so that its sets can be changed without applying it.
    pub fn recall(&mut self, ruleset: &Ruleset) {
        self.shapes = shapes(ruleset);
    }

    /// The number of the ruleset's generation: every transaction of anybody raises it by one.
    pub fn generation(&mut self) -> Result<u32, Error> {
        const NFTA_GEN_ID: u16 = 1;
        let seq = self.talk.sequence(1);
        let mut request = Messages::default();
        let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETGEN) as u16;
        request.begin(kind, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16, seq, &[0; 4]);
        request.end();
        let what = "ask for the generation of the rules";
        let (answer, fault) = self.talk.ask(request.bytes(), seq).map_err(Error::io(what))?;
        if fault.errno != 0 {
            return Err(fault.refused(what));
        }
        let generation = answer.as_ref().and_then(|answer| Attributes(answer.body.get(4..)?).be32(NFTA_GEN_ID));
        generation.ok_or_else(|| Error::Garbled { what: what.into(), why: "it has no id".into() })
    }

    fn transact(&mut self, ruleset: &Ruleset, others: &[&str], commit: bool) -> Result<(), Error> {
        let named: BTreeSet<&str> = ruleset.tables.iter().map(|table| table.name.as_str()).collect();
        let others: BTreeSet<&str> = others.iter().copied().collect();
        let me = self.talk.port();
        for _ in 0..ATTEMPTS {
            // Read before the tables, so that a change in between makes the kernel refuse the batch.
            let generation = self.generation()?;
            let held = table::list(&mut self.talk, batch::FAMILY)?;
            let features = self.features;
            let mut batch = Batch::new(std::mem::take(&mut self.messages), &mut self.talk, Some(generation));
            for table in &held {
                let name = table.name.as_str();
                if named.contains(name) || others.contains(name) || table.owner == Some(me) {
                    table::remove(&mut batch, name);
                }
            }
            for table in &ruleset.tables {
                table::add(&mut batch, table, features)?;
            }
            let (outcome, messages) = batch.send(&mut self.talk, commit);
            self.messages = messages;
            match outcome {
                Ok(()) => return Ok(()),
                Err(Trouble::Overtaken) => tracing::debug!("somebody else changed the tables meanwhile; once more"),
                Err(Trouble::Failed(error)) => return Err(error),
            }
        }
        Err(Error::Refused {
            what: "the ruleset".into(),
            reason: format!("other programs changed the tables {ATTEMPTS} times in a row while it was being installed"),
            errno: libc::EAGAIN,
        })
    }

    /// Where the kernel differs from the ruleset; empty means that every table, chain, set, element and rule is as meant.
    /// Elements of sets with `timeout` come and go and are not compared.
    pub fn differences(&mut self, ruleset: &Ruleset) -> Result<Vec<Difference>, Error> {
        let meant = facts::of_messages(self.encode(ruleset)?.bytes());
        let names: Vec<&str> = ruleset.tables.iter().map(|table| table.name.as_str()).collect();
        let held = self.settled(|talk| facts::of_kernel(talk, &names, &|_| true))?;
        Ok(differences::between(ruleset, &meant, &held))
    }

    /// Base chains of tables that are not in the ruleset: `table ip docker, chain FORWARD: type filter hook forward priority 0; policy drop;`.
    /// For information; another table can only forbid more, never permit what ours forbids.
    pub fn foreign_hooks(&mut self, ruleset: &Ruleset) -> Result<Vec<String>, Error> {
        let ours = |family: u8, table: &str| family == batch::FAMILY && ruleset.tables.iter().any(|our| our.name == table);
        let mut found = Vec::new();
        let any = libc::NFPROTO_UNSPEC as u8;
        dump(
            &mut self.talk,
            "the chains",
            libc::NFT_MSG_GETCHAIN,
            any,
            |_| {},
            |family, chain| {
                let table = chain.text(facts::CHAIN_TABLE).unwrap_or_default();
                if let (Some(base), false) = (facts::base(chain), ours(family, table)) {
                    let name = chain.text(facts::CHAIN_NAME).unwrap_or_default();
                    let words = differences::base_words(&Some(base));
                    found.push(format!("table {} {table}, chain {name}: {words}", family_name(family)));
                }
            },
        )?;
        Ok(found)
    }

    /// Packets and bytes by `Source::id`, summed over every rule and element that carries it, and by comment for the
    /// posture's own rules (`posture/...`).
    pub fn counters(&mut self, ruleset: &Ruleset) -> Result<BTreeMap<String, Tally>, Error> {
        let names: Vec<&str> = ruleset.tables.iter().map(|table| table.name.as_str()).collect();
        let held = self.settled(|talk| facts::of_kernel(talk, &names, &|shape| shape.counters))?;
        let mut sums: BTreeMap<String, Tally> = BTreeMap::new();
        let mut add = |id: &str, tally: Tally| {
            let sum = sums.entry(id.to_owned()).or_default();
            sum.packets += tally.packets;
            sum.bytes += tally.bytes;
        };
        for table in held.tables.values() {
            for rule in table.chains.values().flat_map(|chain| &chain.rules) {
                let posture = || rule.comment.as_deref().filter(|comment| comment.starts_with("posture/"));
                if let (Some(id), Some(tally)) = (rule.source.as_deref().or_else(posture), rule.tally) {
                    add(id, tally);
                }
            }
            for element in table.sets.values().flat_map(|set| &set.elements) {
                if let (Some(id), Some(tally)) = (element.comment.as_deref(), element.live.tally) {
                    add(id, tally);
                }
            }
        }
        Ok(sums)
    }

    /// What the kernel holds in these `inet` tables, in nft's own language, with live counters.
    pub fn text(&mut self, tables: &[&str]) -> Result<String, Error> {
        Ok(text::of(&self.settled(|talk| facts::of_kernel(talk, tables, &|_| true))?))
    }

    /// Adds elements to a named set, all or none. An element that exists already is left as it is (its timeout too:
    /// delete it first to renew it, or use [`Nft::renew_elements`]).
    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[NewElement]) -> Result<(), Error> {
        let shape = self.shape(table, set)?;
        let items: Vec<Item> = elements.iter().map(Item::from).collect();
        self.change_elements(|batch| set::add_elements(batch, table, Name::Named(set), &shape, &items, false))
    }

    /// Gives the elements their timeout anew, whether they exist or not, in one transaction.
    pub fn renew_elements(&mut self, table: &str, set: &str, elements: &[NewElement]) -> Result<(), Error> {
        let shape = self.shape(table, set)?;
        let items: Vec<Item> = elements.iter().map(Item::from).collect();
        let keys: Vec<Item> = items.iter().map(|item| Item { timeout: None, to: None, source: None, ..*item }).collect();
        let destroy = self.destroy;
        self.change_elements(|batch| {
            if destroy {
                set::remove_elements(batch, NFT_MSG_DESTROYSETELEM, table, set, &shape, &keys)?;
            } else {
                // What is added first can be removed for certain.
                set::add_elements(batch, table, Name::Named(set), &shape, &items, false)?;
                set::remove_elements(batch, libc::NFT_MSG_DELSETELEM, table, set, &shape, &keys)?;
            }
            set::add_elements(batch, table, Name::Named(set), &shape, &items, false)
        })
    }

    /// Removes elements, those of the keys that exist. A key has one span for each field of the set.
    pub fn delete_elements(&mut self, table: &str, set: &str, keys: &[Vec<Span>]) -> Result<(), Error> {
        let shape = self.shape(table, set)?;
        let items: Vec<Item> = keys.iter().map(|key| Item { key, to: None, timeout: None, source: None }).collect();
        if self.destroy {
            return self.change_elements(|batch| set::remove_elements(batch, NFT_MSG_DESTROYSETELEM, table, set, &shape, &items));
        }
        for item in &items {
            let one = [*item];
            let outcome = self.change_elements(|batch| set::remove_elements(batch, libc::NFT_MSG_DELSETELEM, table, set, &shape, &one));
            match outcome {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// What a named set holds now.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<HeldElement>, Error> {
        let shape = self.shape(table, set)?;
        let held = self.settled(|talk| facts::elements_of(talk, table, set))?;
        let garbled = || Error::Garbled { what: format!("set {set} of table {table}"), why: "an element does not fit its type".into() };
        let elements = decode::elements(&shape, &held).ok_or_else(garbled)?;
        Ok(elements.into_iter().map(HeldElement::from).collect())
    }

    /// The messages that would make the ruleset.
    fn encode(&mut self, ruleset: &Ruleset) -> Result<Messages, Error> {
        let features = self.features;
        let mut batch = Batch::new(Messages::default(), &mut self.talk, None);
        for table in &ruleset.tables {
            table::add(&mut batch, table, features)?;
        }
        Ok(batch.into_messages())
    }

    /// Reads until nobody has changed the tables meanwhile.
    fn settled<T>(&mut self, mut read: impl FnMut(&mut Talk) -> Result<T, Error>) -> Result<T, Error> {
        let interrupted = |error: &Error| error.errno() == Some(libc::EINTR);
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            match read(&mut self.talk) {
                Err(error) if interrupted(&error) => {}
                Err(error) => return Err(error),
                Ok(facts) if self.generation()? == before => return Ok(facts),
                Ok(_) => {}
            }
        }
        Err(Error::Refused {
            what: "a consistent reading of the tables".into(),
            reason: format!("they were changed {ATTEMPTS} times in a row while being read"),
            errno: libc::EAGAIN,
        })
    }

    fn shape(&self, table: &str, set: &str) -> Result<Shape, Error> {
        let key = (table.to_owned(), set.to_owned());
        self.shapes.get(&key).cloned().ok_or_else(|| Error::Inexpressible {
            what: format!("a change to set {set} of table {table}"),
            why: "the ruleset that was applied has no such set".into(),
        })
    }

    fn change_elements<'a>(&mut self, write: impl FnOnce(&mut Batch<'a>) -> Result<(), Error>) -> Result<(), Error> {
        let mut batch = Batch::new(std::mem::take(&mut self.messages), &mut self.talk, None);
        write(&mut batch)?;
        let (outcome, messages) = batch.send(&mut self.talk, true);
        self.messages = messages;
        match outcome {
            Err(Trouble::Failed(error)) => Err(error),
            Err(Trouble::Overtaken) | Ok(()) => Ok(()),
        }
    }
}

fn shapes(ruleset: &Ruleset) -> BTreeMap<(String, String), Shape> {
    let sets = ruleset.tables.iter().flat_map(|table| table.sets.iter().map(|(name, set)| (table.name.clone(), name.clone(), set)));
    sets.map(|(table, name, set)| ((table, name), Shape::from(set))).collect()
}

/// Asks for everything of a kind and hands each answer's family and attributes to `visit`.
fn dump(
    talk: &mut Talk,
    what: &str,
    kind: i32,
    family: u8,
    filter: impl Fn(&mut Messages),
    mut visit: impl FnMut(u8, Attributes<'_>),
) -> Result<(), Error> {
    let seq = talk.sequence(1);
    let mut request = Messages::default();
    request.begin(
        (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16,
        (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
        seq,
        &[family, 0, 0, 0],
    );
    filter(&mut request);
    request.end();
    talk.dump(request.bytes(), seq, |_, body| {
        let (family, attributes) = table::family_of(body);
        visit(family, attributes);
    })
    .map_err(Error::io(format!("read {what}")))
}

fn family_name(family: u8) -> &'static str {
    match i32::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        libc::NFPROTO_ARP => "arp",
        libc::NFPROTO_BRIDGE => "bridge",
        libc::NFPROTO_NETDEV => "netdev",
        _ => "?",
    }
}
