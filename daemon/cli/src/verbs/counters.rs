//! `portcullis counters`: what the kernel counted since the generation was installed.

use policy::messages::{ApplierRequest, ApplierResponse, Counters};

use super::{say, say_json};
use crate::applier::Applier;
use crate::paint::{self, Paint};
use crate::trouble::Trouble;

pub fn run(json: bool, applier: &Applier) -> Result<(), Trouble> {
    match applier.ask(&ApplierRequest::Counters)? {
        ApplierResponse::Counters(counters) if json => say_json(&counters),
        ApplierResponse::Counters(counters) => say(table(&counters, paint::for_stdout())),
        other => Err(Applier::unexpected(other)),
    }
}

fn table(counters: &Counters, paint: Paint) -> String {
    let width = counters.rules.keys().map(String::len).chain([4]).max().unwrap_or(4);
    let mut lines = vec![paint.strong(&format!("{:width$} {:>12} {:>14}", "rule", "packets", "bytes"))];
    lines.extend(counters.rules.iter().map(|(id, tally)| format!("{id:width$} {:>12} {:>14}", tally.packets, tally.bytes)));
    lines.push(String::new());
    lines.push(paint.strong(&format!("{:15} {:5} {:>14} {:>14} addresses", "link", "state", "received", "sent")));
    lines.extend(counters.links.iter().map(|(name, link)| {
        let state = if link.up { "up" } else { "down" };
        format!("{name:15} {state:5} {:>14} {:>14} {}", link.rx_bytes, link.tx_bytes, link.addresses.join(" "))
    }));
    lines.push(String::new());
    lines.push(format!("{} of {} connections", counters.connections, counters.connections_max));
    lines.join("\n")
}
