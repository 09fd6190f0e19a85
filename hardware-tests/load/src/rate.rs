//! Connections as fast as they can be had, so many at once: connect, one byte there and back, close, and the next.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

/// One connection after the other.
struct Lane {
    fd: Option<OwnedFd>,
    asked: bool,
    began: Instant,
}

struct Rate {
    server: SocketAddr,
    epoll: OwnedFd,
    lanes: Vec<Lane>,
    made: u64,
    failed: u64,
}

/// A connection that has not been answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

pub fn run(server: SocketAddr, seconds: u64, at_once: usize) -> io::Result<()> {
    let began = Instant::now();
    let lanes = (0..at_once).map(|_| Lane { fd: None, asked: false, began }).collect();
    let mut rate = Rate { server, epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, lanes, made: 0, failed: 0 };
    (0..at_once).try_for_each(|lane| rate.begin(lane))?;
    let mut each = vec![];
    let mut events: Vec<Event> = Vec::with_capacity(256);
    let mut before = 0;
    while (each.len() as u64) < seconds {
        events.clear();
        epoll::wait(&rate.epoll, rustix::buffer::spare_capacity(&mut events), Some(&TICK))?;
        for event in &events {
            rate.event(event.data.u64() as usize, event.flags)?;
        }
        if began.elapsed() >= Duration::from_secs(each.len() as u64 + 1) {
            each.push((rate.made - before).to_string());
            before = rate.made;
            rate.give_up_on_the_late()?;
        }
    }
    println!("{} {}\n{}", rate.made, rate.failed, each.join(" "));
    Ok(())
}

impl Rate {
    fn begin(&mut self, place: usize) -> io::Result<()> {
        let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        match connect(&fd, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(&self.epoll, &fd, EventData::new_u64(place as u64), EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        self.lanes[place] = Lane { fd: Some(fd), asked: false, began: Instant::now() };
        Ok(())
    }

    fn event(&mut self, place: usize, flags: EventFlags) -> io::Result<()> {
        let lane = &mut self.lanes[place];
        let Some(fd) = &lane.fd else { return Ok(()) };
        if flags.intersects(EventFlags::ERR) {
            self.failed += 1;
            return self.begin(place);
        }
        if !lane.asked && flags.contains(EventFlags::OUT) {
            lane.asked = send(fd, b"x", SendFlags::NOSIGNAL).is_ok();
        }
        if !flags.contains(EventFlags::IN) {
            return Ok(());
        }
        match recv(fd, &mut [0; 16], RecvFlags::empty()) {
            Ok((_, 1)) => self.made += 1,
            Err(Errno::AGAIN) => return Ok(()),
            _ => self.failed += 1,
        }
        self.begin(place)
    }

    fn give_up_on_the_late(&mut self) -> io::Result<()> {
        for place in 0..self.lanes.len() {
            if self.lanes[place].began.elapsed() > PATIENCE {
                self.failed += 1;
                self.begin(place)?;
            }
        }
        Ok(())
    }
}
