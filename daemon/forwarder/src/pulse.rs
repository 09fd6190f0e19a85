//! Whether the threads that carry still turn: each is knocked at its door, and who has not opened by the next round hangs.
//!
//! The service manager hears of the process while all of them open, and ends it (`WatchdogSec`) when it has heard nothing for too long:
//! then no client is let in any more, and a whole forwarder begins.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use crate::flows::Door;

pub struct Pulse(pub Vec<(String, Arc<Door>)>);

/// Several rounds fit into `WatchdogSec`: a door that is knocked at by others at the moment of a round costs nothing.
const ROUND: Duration = Duration::from_secs(5);

impl Pulse {
    pub fn run(&self) -> ! {
        loop {
            std::thread::sleep(ROUND);
            let hung = self.round();
            if !hung.is_empty() {
                warn!(?hung, "threads that do not turn");
            } else if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                warn!(%error, "the service manager could not be told");
            }
        }
    }

    /// Who has not opened since the last round; knocks again.
    fn round(&self) -> Vec<&str> {
        let hung = self.0.iter().filter(|(_, door)| door.is_rung()).map(|(name, _)| name.as_str()).collect();
        self.0.iter().for_each(|(_, door)| door.wake());
        hung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_open_its_door_is_named_and_one_that_does_is_not() {
        let doors = ["tcp-0", "udp-0"].map(|name| (name.to_owned(), Arc::new(Door::new().unwrap())));
        let pulse = Pulse(doors.to_vec());
        assert!(pulse.round().is_empty(), "nobody was knocked at yet");
        doors[0].1.take();
        assert_eq!(pulse.round(), ["udp-0"]);
        doors.iter().for_each(|(_, door)| _ = door.take());
        assert!(pulse.round().is_empty(), "both have opened");
    }
}
