//! What may stand on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};

use crate::trouble::EXIT_CODES;

#[derive(Parser)]
#[command(name = "portcullis", version, about = "Says what a network may do, shows what that changes, applies it and safely goes back.", after_help = EXIT_CODES)]
pub struct Args {
    /// Where the processes of the box have their sockets
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub run_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Reads a policy, reports every problem at once, and proves its assertions
    Check {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Problems and digest as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Prints everything the box would become: links, routes, sysctls and the nftables ruleset
    Plan {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Only the digest
        #[arg(long, conflicts_with = "ruleset")]
        digest: bool,
        /// Only the ruleset, as `nft -f` reads it
        #[arg(long)]
        ruleset: bool,
    },
    /// Tells two policies apart, by text and by meaning
    Diff {
        #[arg(value_name = "OLD")]
        old: String,
        #[arg(value_name = "NEW")]
        new: String,
        /// Compare the compiled plans line by line instead of the policies' text
        #[arg(long)]
        plan: bool,
        #[arg(long, conflicts_with = "plan")]
        json: bool,
    },
    /// Follows one packet through a policy: the verdict, the translations, and the line that decides
    Explain {
        /// The running policy without one
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
        #[command(flatten)]
        packet: Packet,
        #[arg(long)]
        json: bool,
    },
    /// Prints the JSON Schema of the policy language, for editors
    Schema,
    /// Lists the starting points, or prints one: a complete, commented policy to change
    New {
        #[arg(value_name = "STARTING-POINT")]
        name: Option<String>,
        /// Write it to this file, which must not exist yet
        #[arg(long, short, value_name = "FILE", requires = "name")]
        output: Option<PathBuf>,
    },
    /// Puts a policy on trial; without a confirmation the box goes back by itself
    Apply {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Seconds until it goes back; the policy's confirmWithin otherwise
        #[arg(long, value_name = "SECONDS")]
        confirm_within: Option<u32>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[arg(long)]
        json: bool,
    },
    /// Keeps the generation on trial; say it over a connection that you opened after `apply`
    Confirm {
        /// The generation that you mean; the one on trial otherwise
        generation: Option<u64>,
        #[arg(long)]
        json: bool,
    },
    /// Ends the trial now, or puts an earlier generation on trial
    Rollback {
        generation: Option<u64>,
        #[arg(long)]
        json: bool,
    },
    /// What runs, what is on trial and until when, and what drifted
    Status {
        /// Compare the kernel with the plan now, instead of waiting for the next round
        #[arg(long)]
        compare: bool,
        #[arg(long)]
        json: bool,
    },
    /// Packets and bytes of every rule, and the links
    Counters {
        #[arg(long)]
        json: bool,
    },
    /// Mapped clients: who is let in, what is open, and the upstreams
    #[command(subcommand)]
    Proxy(Proxy),
    /// Passwords that upstreams want; they go in and never come out
    #[command(subcommand)]
    Secret(Secret),
    /// All mappings as one table
    #[command(subcommand)]
    Mappings(Mappings),
    /// The two slots: what runs, what the last update came to, and another version
    #[command(subcommand)]
    Update(Update),
    /// A menu for people in trouble: plain text for a serial line or ssh; works when other parts of the box do not
    Console,
    /// Prints the policy text that the box runs, or a kept generation's
    Sources {
        generation: Option<u64>,
        /// Write the files into this folder, which must not exist yet
        #[arg(long, short, value_name = "FOLDER")]
        output: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum Proxy {
    /// Every mapping with its way out and why it is blocked, every upstream with its last probe
    Status {
        #[arg(long)]
        json: bool,
    },
    /// What mapped clients have open, those with the most bytes first
    Flows {
        /// Only of this mapping
        #[arg(long, value_name = "NAME")]
        mapping: Option<String>,
        /// Only of this address
        #[arg(long, value_name = "ADDRESS")]
        client: Option<IpAddr>,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
        #[arg(long)]
        json: bool,
    },
    /// Ends one flow, or all of a client
    #[command(group = clap::ArgGroup::new("which").required(true).args(["flow", "client"]))]
    Close {
        /// The number that `flows` shows
        flow: Option<u64>,
        #[arg(long, value_name = "ADDRESS")]
        client: Option<IpAddr>,
    },
    /// Probes upstreams through themselves now and waits for the answers; all without a name
    Probe {
        #[arg(value_name = "UPSTREAM")]
        upstreams: Vec<String>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum Update {
    /// The slots, the update under way, and how the last one ended
    Status {
        #[arg(long)]
        json: bool,
    },
    /// Reads an update to its end and says whether it could be installed; nothing is changed
    Check {
        /// A file, stick:NAME/FILE, or an address that begins with https://
        source: String,
        /// Also one that is older than what runs
        #[arg(long)]
        downgrade: bool,
        #[arg(long)]
        json: bool,
    },
    /// Installs an update into the slot that does not run; the next boot tries it
    Install {
        /// A file, stick:NAME/FILE, or an address that begins with https://
        source: String,
        /// Also one that is older than what runs
        #[arg(long)]
        downgrade: bool,
    },
    /// Boots the other slot, which has three boots to be found good
    BootOther,
}

#[derive(Subcommand)]
pub enum Secret {
    /// Keeps a secret, sealed; its value comes from standard input, or is asked for without showing it
    Set { name: String },
    /// Forgets it; mappings whose upstreams need it are blocked at once
    Remove { name: String },
}

#[derive(Subcommand)]
pub enum Mappings {
    /// Prints the mappings of a policy as CSV, ready to be imported again
    Export {
        /// The running policy without one
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Puts the mappings of a CSV table into a policy and that on trial; with one bad line nothing happens
    Import {
        /// The table; - for standard input
        #[arg(value_name = "FILE")]
        table: PathBuf,
        /// The policy to put them into; the running one otherwise
        #[arg(long, value_name = "PATH")]
        policy: Option<String>,
        /// Write the policy into this folder, which must not exist yet, instead of applying it
        #[arg(long, short, value_name = "FOLDER", conflicts_with_all = ["yes", "confirm_within", "json"])]
        output: Option<PathBuf>,
        /// Seconds until it goes back; the policy's confirmWithin otherwise
        #[arg(long, value_name = "SECONDS")]
        confirm_within: Option<u32>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[arg(long)]
        json: bool,
    },
}

/// The first packet of a connection. What is not said is chosen as an ordinary host of the zone would.
#[derive(Group)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["tcp", "udp", "icmp", "icmpv6", "service"]))]
pub struct Packet {
    /// A zone or port, with or without an address, or `box`: lan:192.168.2.10
    #[arg(long)]
    pub from: String,
    /// An address, or `box`
    #[arg(long)]
    pub to: String,
    /// TCP to this port
    #[arg(long, value_name = "PORT")]
    tcp: Option<String>,
    /// UDP to this port
    #[arg(long, value_name = "PORT")]
    udp: Option<String>,
    /// ICMP of this type, by number or name: echo-request
    #[arg(long, value_name = "TYPE")]
    icmp: Option<String>,
    /// ICMPv6 of this type
    #[arg(long, value_name = "TYPE")]
    icmpv6: Option<String>,
    /// Anything else: sctp/5000, gre, proto/89
    #[arg(long)]
    service: Option<String>,
    /// A time of the week, where schedules matter: "mon 12:00"
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// The sender's hardware address, by which it may be mapped: 02:00:00:00:00:01
    #[arg(long, value_name = "ADDRESS")]
    pub mac: Option<String>,
}

impl Packet {
    pub fn service(&self) -> String {
        let with = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}/{value}"));
        let named = [with("tcp", &self.tcp), with("udp", &self.udp), with("icmp", &self.icmp), with("icmpv6", &self.icmpv6)];
        named.into_iter().flatten().next().or_else(|| self.service.clone()).unwrap_or_default()
    }
}
