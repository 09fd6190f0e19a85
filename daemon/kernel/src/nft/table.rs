//! Tables: their flags, who owns them, and the whole of one as messages.

use std::ffi::CString;

use policy::ruleset::{self, BasePolicy, ChainKind, Hook, Part};

use super::batch::{Batch, FAMILY, Subject};
use super::set::{self, Item, Name, Shape};
use super::{Features, rule};
use crate::Error;
use crate::netlink::{Attributes, Talk};

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_OWNER: u16 = 7;
/// NFT_TABLE_F_OWNER and NFT_TABLE_F_PERSIST (include/uapi/linux/netfilter/nf_tables.h).
pub const OWNER: u32 = 0x2;
pub const PERSIST: u32 = 0x4;

/// A table as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub family: u8,
    pub name: String,
    pub flags: u32,
    /// Port id of the owner's socket.
    pub owner: Option<u32>,
}

/// The tables of one family, or of all with `AF_UNSPEC`.
pub fn list(talk: &mut Talk, family: u8) -> Result<Vec<Held>, Error> {
    let mut tables = Vec::new();
    super::dump(
        talk,
        "the tables",
        libc::NFT_MSG_GETTABLE,
        family,
        |_| {},
        |family, attributes| {
            tables.push(Held {
                family,
                name: attributes.text(NFTA_TABLE_NAME).unwrap_or_default().to_owned(),
                flags: attributes.be32(NFTA_TABLE_FLAGS).unwrap_or(0),
                owner: attributes.be32(NFTA_TABLE_OWNER),
            });
        },
    )?;
    Ok(tables)
}

pub fn remove<'a>(batch: &mut Batch<'a>, table: &'a str) {
    batch.message(libc::NFT_MSG_DELTABLE, 0, Subject::Table(table), |message| message.text(NFTA_TABLE_NAME, table));
}

/// A whole table. Chains come first, since rules and verdict maps lead to them; then sets, since rules look into them.
pub fn add<'a>(batch: &mut Batch<'a>, table: &'a ruleset::Table, features: Features) -> Result<(), Error> {
    let name = table.name.as_str();
    batch.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, Subject::Table(name), |message| {
        message.text(NFTA_TABLE_NAME, name);
        message.be32(NFTA_TABLE_FLAGS, flags(table, features));
    });
    let nft_table = nftnl::Table::new(c_text(name)?, nftnl::ProtoFamily::Inet);
    let mut chains = Vec::with_capacity(table.chains.len());
    for (chain_name, chain) in table.chains_in_order() {
        shuts_by_a_rule(name, chain_name, chain)?;
        let nft_chain = nft_chain(&nft_table, chain_name, chain)?;
        batch.nftnl(&nft_chain, Subject::Chain { table: name, chain: chain_name }, |_| {});
        chains.push((chain_name, chain, nft_chain));
    }
    for (set_name, set) in &table.sets {
        let shape = Shape::from(set);
        set::add(batch, name, Name::Named(set_name), &shape, None, set.comment.as_deref());
        let items: Vec<Item> = set.elements.iter().map(Item::from).collect();
        set::add_elements(batch, name, Name::Named(set_name), &shape, &items, true)?;
    }
    for (chain_name, chain, nft_chain) in &chains {
        for (index, rule) in chain.rules.iter().enumerate() {
            rule::add(batch, name, chain_name, nft_chain, index, rule)?;
        }
    }
    Ok(())
}

pub fn flags(table: &ruleset::Table, features: Features) -> u32 {
    match (table.owned && features.owner, features.persist) {
        (false, _) => 0,
        (true, false) => OWNER,
        (true, true) => OWNER | PERSIST,
    }
}

/// Linux gives a new chain its policy `drop` only once the chains that the same transaction removes are gone (nf_tables_commit walks the
/// changes in order, while rules change all at once). Between the two the chain accepts whatever no rule of it decides about;
/// a last rule that decides leaves nothing to the policy.
fn shuts_by_a_rule(table: &str, name: &str, chain: &ruleset::Chain) -> Result<(), Error> {
    let drops = chain.base.is_some_and(|base| base.policy == BasePolicy::Drop);
    let always = |part: &Part| matches!(part, Part::Counter | Part::Log { .. } | Part::Verdict(_));
    let decides = |rule: &ruleset::Rule| rule.parts.iter().all(always) && rule.parts.iter().any(|part| matches!(part, Part::Verdict(_)));
    if !drops || chain.rules.last().is_some_and(decides) {
        return Ok(());
    }
    Err(Error::Inexpressible {
        what: format!("table inet {table}, chain {name}"),
        why: "its policy is drop, but its last rule does not drop, so that it would be open for a moment while it is replaced".into(),
    })
}

fn nft_chain<'a>(table: &'a nftnl::Table, name: &str, chain: &ruleset::Chain) -> Result<nftnl::Chain<'a>, Error> {
    let mut out = nftnl::Chain::new(c_text(name)?, table);
    if let Some(base) = &chain.base {
        let hook = match base.hook {
            Hook::Prerouting => nftnl::Hook::PreRouting,
            Hook::Input => nftnl::Hook::In,
            Hook::Forward => nftnl::Hook::Forward,
            Hook::Output => nftnl::Hook::Out,
            Hook::Postrouting => nftnl::Hook::PostRouting,
        };
        out.set_hook(hook, base.priority);
        out.set_type(match base.kind {
            ChainKind::Filter => nftnl::ChainType::Filter,
            ChainKind::Nat => nftnl::ChainType::Nat,
        });
        out.set_policy(match base.policy {
            BasePolicy::Accept => nftnl::Policy::Accept,
            BasePolicy::Drop => nftnl::Policy::Drop,
        });
    }
    Ok(out)
}

/// Lets the kernel check a table with these flags, without making it.
pub fn knows_flags(talk: &mut Talk, flags: u32) -> bool {
    let mut batch = Batch::new(Default::default(), talk, None);
    let name = "portcullis-probe";
    batch.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, Subject::Table(name), |message| {
        message.text(NFTA_TABLE_NAME, name);
        message.be32(NFTA_TABLE_FLAGS, flags);
    });
    batch.send(talk, false).0.is_ok()
}

/// Whether the kernel knows NFT_MSG_DESTROYSETELEM and its sisters (Linux 6.3), which take what does not exist for removed.
pub fn knows_destroy(talk: &mut Talk) -> bool {
    let mut batch = Batch::new(Default::default(), talk, None);
    let name = "portcullis-probe";
    batch.message(super::NFT_MSG_DESTROYTABLE, 0, Subject::Table(name), |message| message.text(NFTA_TABLE_NAME, name));
    batch.send(talk, false).0.is_ok()
}

pub fn family_of(body: &[u8]) -> (u8, Attributes<'_>) {
    (body.first().copied().unwrap_or(FAMILY), Attributes(body.get(4..).unwrap_or(&[])))
}

fn c_text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Inexpressible { what: format!("{text:?}"), why: "it contains a zero byte".into() })
}
