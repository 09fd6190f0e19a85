//! What a client may hold of associations, and when they end; time is as the story tells it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use policy::name::Name;
use policy::plan::proxy::{Upstream, Via};
use rustix::event::epoll;

use crate::config::samples::{carried, name};
use crate::config::{Carried, Mapped};
use crate::flows::{Door, Flows, Limits};
use crate::udp::associations::{Associations, PER_CLIENT_MAX};
use crate::udp::receive::Arrived;
use crate::udp::{Counters, Desk, Ground, Kind, told};

const SECOND: Duration = Duration::from_secs(1);

/// Carries by `one`, whatever happens.
struct Still {
    carried: Arc<Carried>,
    flows: Flows,
    failed: Mutex<Vec<String>>,
}

impl Ground for Still {
    fn carried(&self) -> Option<Arc<Carried>> {
        Some(self.carried.clone())
    }

    fn flows(&self) -> &Flows {
        &self.flows
    }

    fn choose(&self, _via: &Via) -> Result<Name, String> {
        Ok(name("one"))
    }

    fn failed(&self, _upstream: &Name, why: &str) {
        self.failed.lock().unwrap().push(why.to_owned());
    }

    fn succeeded(&self, _upstream: &Name) {}

    fn doubt(&self, _upstream: &Name) {}

    fn pipelined(&self, _upstream: &Name) -> bool {
        false
    }
}

struct Story {
    desk: Desk,
    ground: Arc<Still>,
    associations: Associations,
    mapped: Arc<Mapped>,
    began: Instant,
}

impl Story {
    /// With an upstream on this port here.
    fn of(port: u16) -> Story {
        let carried = carried(|proxy, _| {
            let one = proxy.upstreams.get_mut(&name("one")).unwrap();
            *one = Upstream { address: "127.0.0.1".parse().unwrap(), udp: true, port, ..one.clone() };
        });
        let mapped = carried.mapping(7, "10.0.0.5".parse().unwrap()).unwrap().clone();
        let flows = Flows::new(Limits { flows: 1000, per_client: 500 });
        let ground = Arc::new(Still { carried: Arc::new(carried), flows, failed: Mutex::default() });
        let desk = Desk {
            ground: ground.clone(),
            door: Arc::new(Door::new().unwrap()),
            counters: Arc::new(Counters::default()),
            answers: None,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            next: 16,
        };
        Story { desk, ground, associations: Associations::default(), mapped, began: Instant::now() }
    }

    fn at(&self, after: Duration) -> Instant {
        self.began + after
    }

    fn sends(&mut self, from: u16, to: &str, after: Duration) {
        let arrived = Arrived { length: 4, client: SocketAddr::from(([10, 0, 0, 5], from)), asked: to.parse().unwrap(), id: 7 };
        let now = self.at(after);
        self.associations.carry(&mut self.desk, &self.mapped, &arrived, b"word", now);
    }

    fn tick(&mut self, after: Duration) {
        let now = self.at(after);
        self.associations.tick(&mut self.desk, now);
    }

    /// What the upstream says is heard until the client's datagram has reached the relay.
    fn associates(&mut self, relay: &UdpSocket) {
        relay.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let end = Instant::now() + 20 * SECOND;
        while relay.recv(&mut [0; 100]).is_err() {
            assert!(Instant::now() < end, "nothing came to the relay");
            let mut events = Vec::with_capacity(16);
            let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            epoll::wait(&self.desk.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)).unwrap();
            for event in events {
                if let (Kind::Control, number) = told(event.data.u64()) {
                    self.associations.control(&mut self.desk, number, self.began);
                }
            }
        }
    }

    fn flows(&self) -> BTreeMap<Name, u64> {
        self.ground.flows.counts().mappings
    }

    fn held(&self) -> u64 {
        self.flows().get(&name("desk")).copied().unwrap_or(0)
    }
}

/// Takes connections and says nothing.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Associates everybody with this relay.
fn associating(relay: &UdpSocket) -> u16 {
    let (listener, port) = silent();
    let [high, low] = relay.local_addr().unwrap().port().to_be_bytes();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || -> std::io::Result<()> {
                stream.read_exact(&mut [0; 3])?;
                stream.write_all(&[5, 0])?;
                stream.read_exact(&mut [0; 10])?;
                stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, high, low])?;
                while stream.read(&mut [0; 100])? > 0 {}
                Ok(())
            });
        }
    });
    port
}

#[test]
fn a_client_holds_so_many_associations_and_then_the_quietest_gives_way() {
    let (_listener, port) = silent();
    let mut story = Story::of(port);
    let most = PER_CLIENT_MAX as u16;
    for from in 0..most {
        story.sends(1000 + from, "192.0.2.7:9", Duration::ZERO);
    }
    assert_eq!(story.held(), u64::from(most));
    story.sends(5000, "192.0.2.7:9", SECOND);
    assert_eq!((story.held(), story.desk.counters.limited.load(Relaxed)), (u64::from(most), 1), "all were used a moment ago");
    (1..most).for_each(|from| story.sends(1000 + from, "192.0.2.7:9", SECOND));
    story.sends(5000, "192.0.2.7:9", 2 * SECOND);
    assert_eq!((story.held(), story.desk.counters.limited.load(Relaxed)), (u64::from(most), 1), "the first has been quiet");
    let ports: Vec<u16> = story.ground.flows.list(|_| true, 1000).0.iter().map(|flow| flow.client.port()).collect();
    assert!(ports.contains(&5000) && !ports.contains(&1000));
}

#[test]
fn what_waits_for_an_association_is_bounded_and_an_upstream_that_is_silent_is_told_and_spared() {
    let (_listener, port) = silent();
    let mut story = Story::of(port);
    (0..20).for_each(|_| story.sends(1000, "192.0.2.7:9", Duration::ZERO));
    assert_eq!((story.held(), story.desk.counters.limited.load(Relaxed)), (1, 12), "eight wait");
    story.tick(5 * SECOND);
    assert_eq!(story.held(), 1);
    story.tick(6 * SECOND);
    assert_eq!((story.held(), story.ground.failed.lock().unwrap().join(", ")), (0, "it did not answer in time".into()));
    story.sends(1000, "192.0.2.7:9", 7 * SECOND);
    assert_eq!((story.held(), story.desk.counters.no_udp.load(Relaxed)), (0, 1), "it is not asked again at once");
    story.tick(12 * SECOND);
    story.sends(1000, "192.0.2.7:9", 12 * SECOND);
    assert_eq!(story.held(), 1);
}

#[test]
fn an_association_ends_a_minute_after_its_last_datagram_and_one_that_asks_for_the_time_after_ten_seconds() {
    for (to, lasts) in [("192.0.2.7:443", 60), ("192.0.2.7:123", 10)] {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut story = Story::of(associating(&relay));
        story.sends(1000, to, Duration::ZERO);
        story.associates(&relay);
        let lasts = lasts * SECOND;
        story.tick(lasts);
        assert_eq!(story.held(), 1, "{to}");
        story.sends(1000, to, lasts);
        story.tick(lasts + lasts);
        assert_eq!(story.held(), 1, "{to}: each datagram gives it new time");
        story.tick(lasts + lasts + SECOND);
        assert_eq!((story.held(), story.ground.failed.lock().unwrap().len()), (0, 0), "{to}");
    }
}
