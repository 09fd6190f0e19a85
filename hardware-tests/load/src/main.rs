//! Both ends of a benchmark, made to cost as little as they can: a server that is a SOCKS5 proxy and its own destination, and clients
//! that ask it one after the other, as fast as they can, in bulk, or hold on.

mod client;
mod rate;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

const USAGE: &str = "\
load serve SOCKS-PORT PLAIN-PORT          until it is killed
load first SERVER COUNT                   microseconds to the first byte of each of COUNT connections, one after the other
load bulk SERVER BYTES FLOWS              seconds until so many flows have brought so many bytes together
load rate SERVER SECONDS AT-ONCE          connections made, failed, and made in each second
load hold SERVER FIRST-SOURCE SOURCES     reads numbers; holds so many connections, from so many addresses";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match words {
        ["serve", socks, plain] => serve::run(read(socks)?, read(plain)?),
        ["first", server, count] => client::first(read(server)?, read(count)?),
        ["bulk", server, bytes, flows] => client::bulk(read(server)?, read(bytes)?, read(flows)?),
        ["rate", server, seconds, at_once] => rate::run(read(server)?, read(seconds)?, read(at_once)?),
        ["hold", server, source, sources] => client::hold(read::<SocketAddr>(server)?, read(source)?, read(sources)?),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn read<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("{word}: not understood\n{USAGE}")))
}
