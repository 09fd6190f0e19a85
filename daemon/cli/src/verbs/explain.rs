//! `portcullis explain`: what the box does with one packet, and which line of the policy is the reason.

use policy::{Query, compile, explain, load};

use super::{say, say_json};
use crate::applier::Applier;
use crate::args::Packet;
use crate::sources;
use crate::trouble::Trouble;

pub fn run(paths: &[String], packet: &Packet, json: bool, applier: &Applier) -> Result<(), Trouble> {
    // The question first: whoever mistypes it should not wait for a policy to be read.
    let query = Query::parse(&packet.from, &packet.to, &packet.service(), packet.at.as_deref())
        .and_then(|query| query.with_mac(packet.mac.as_deref()))
        .map_err(usage)?;
    let running = ["@running".to_owned()];
    // A policy with a false assertion can still be asked why it is false.
    let checked = load(&sources::gather(if paths.is_empty() { &running } else { paths }, applier)?).map_err(Trouble::Problems)?;
    let explanation = explain(&checked, &compile(&checked), &query).map_err(usage)?;
    if json { say_json(&explanation) } else { say(explanation.to_string()) }
}

fn usage(error: policy::explain::BadQuery) -> Trouble {
    Trouble::Usage(error.to_string())
}
