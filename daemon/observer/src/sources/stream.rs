//! EVE over a unix stream socket: Suricata (`filetype: unix_stream`) connects and writes lines. It never waits for the disk: what is read is
//! queued or dropped and counted.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tracing::{info, warn};

use super::{Gauge, lines::Lines};
use crate::eve;
use crate::queue::Queue;

const PIECE: usize = 1 << 20;

/// Listens, and reads whoever of `allowed` (user ids) connects. A new connection takes the place of the old one.
pub fn start(path: &Path, allowed: Vec<u32>, queue: Arc<Queue>, gauge: Arc<Gauge>) -> io::Result<()> {
    let listener = listen(path)?;
    thread::Builder::new().name("eve".into()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) if is_allowed(&stream, &allowed) => {
                    let (queue, gauge) = (queue.clone(), gauge.clone());
                    let begun = thread::Builder::new().name("eve-read".into()).spawn(move || read(stream, &queue, &gauge));
                    if let Err(error) = begun {
                        warn!(%error, "could not read a connection");
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    })?;
    Ok(())
}

fn read(mut stream: UnixStream, queue: &Queue, gauge: &Gauge) {
    gauge.is_open(true);
    info!("a sensor is connected");
    let mut lines = Lines::default();
    let mut piece = vec![0; PIECE];
    while !queue.is_closed() {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                let now = eve::now();
                if let Some(batch) = lines.push(piece.get(..length).unwrap_or_default(), now) {
                    gauge.read(batch.seen.len() as u64, batch.garbled, now);
                    queue.push(batch);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                warn!(%error, "a sensor's connection broke");
                break;
            }
        }
    }
    gauge.is_open(false);
    info!("the sensor has gone");
}

fn is_allowed(stream: &UnixStream, allowed: &[u32]) -> bool {
    match getsockopt(stream, PeerCredentials) {
        Ok(peer) if allowed.contains(&peer.uid()) => true,
        Ok(peer) => {
            warn!(uid = peer.uid(), pid = peer.pid(), "a user who is no sensor tried to send events");
            false
        }
        Err(_) => false,
    }
}

/// A socket that an earlier, killed process left behind would refuse the name.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Everyone may connect; who may speak is decided by the peer's user id, which cannot be forged.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}
