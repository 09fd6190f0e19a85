//! The room as its supervisor, a sensor and control see it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy::messages::observer::{AlertFilter, EventFilter, ObserverRequest, ObserverResponse, ObserverStatus};
use policy::messages::{Inbox, encode};

struct Room {
    process: Child,
    folder: tempfile::TempDir,
}

impl Room {
    fn open(folder: tempfile::TempDir) -> Room {
        let notify = folder.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let supervisor = UnixDatagram::bind(&notify).unwrap();
        supervisor.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_portcullis-observer"))
            .env("PORTCULLIS_RUN_DIR", folder.path())
            .env("PORTCULLIS_STATE_DIR", folder.path().join("state"))
            .env("NOTIFY_SOCKET", &notify)
            .spawn()
            .unwrap();
        let mut message = [0; 256];
        let length = supervisor.recv(&mut message).unwrap();
        assert!(message[..length].starts_with(b"READY=1"));
        Room { process, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ask(&self, request: &ObserverRequest) -> ObserverResponse {
        let mut stream = UnixStream::connect(self.path().join("observer.sock")).unwrap();
        stream.write_all(&encode(request).unwrap()).unwrap();
        next(&mut stream, &mut Inbox::default())
    }

    fn status(&self) -> ObserverStatus {
        let ObserverResponse::Status(status) = self.ask(&ObserverRequest::Status) else { panic!("no status") };
        status
    }

    fn wait_for(&self, what: &str, so: impl Fn(&ObserverStatus) -> bool) -> ObserverStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status();
            if so(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}: {status:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self, signal: Signal) -> tempfile::TempDir {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
        let status = self.process.wait().unwrap();
        assert!(signal == Signal::SIGKILL || status.success());
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn next(stream: &mut UnixStream, inbox: &mut Inbox) -> ObserverResponse {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    loop {
        if let Some(response) = inbox.take().unwrap() {
            return response;
        }
        let mut piece = [0; 65_536];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "the observer closed the connection");
        inbox.push(&piece[..length]);
    }
}

fn alert(n: u32) -> String {
    format!(
        "{{\"timestamp\":\"2026-11-28T06:33:01.123456+0000\",\"event_type\":\"alert\",\"src_ip\":\"203.0.113.7\",\"src_port\":{},\"dest_ip\":\"192.168.2.10\",\
         \"dest_port\":22,\"proto\":\"TCP\",\"alert\":{{\"signature_id\":2001219,\"signature\":\"ET SCAN Potential SSH Scan\",\"severity\":2}}}}\n",
        1_024 + n % 60_000
    )
}

#[test]
fn a_sensor_s_lines_become_events_and_one_alert_that_a_follower_hears_of() {
    let room = Room::open(tempfile::tempdir().unwrap());
    let (mut follower, mut inbox) = (UnixStream::connect(room.path().join("observer.sock")).unwrap(), Inbox::default());
    follower.write_all(&encode(&ObserverRequest::Follow).unwrap()).unwrap();
    assert_eq!(next(&mut follower, &mut inbox), ObserverResponse::StillHere);

    let mut sensor = UnixStream::connect(room.path().join("eve.sock")).unwrap();
    let begun = Instant::now();
    sensor.write_all(alert(0).as_bytes()).unwrap();
    let ObserverResponse::Raised { alert: raised } = next(&mut follower, &mut inbox) else { panic!("nothing was raised") };
    println!("raised after {:?}", begun.elapsed());
    assert_eq!((raised.title.as_str(), raised.count), ("ET SCAN Potential SSH Scan", 1));

    sensor.write_all(b"this is no event\n").unwrap();
    for n in 1..1_000 {
        sensor.write_all(alert(n).as_bytes()).unwrap();
    }
    let status = room.wait_for("stored", |status| status.stored == 1_000);
    assert_eq!((status.garbled, status.dropped, status.alerts_open), (1, 0, 1));
    assert!(status.sources[0].open);

    let ObserverResponse::Event { event, .. } = room.ask(&ObserverRequest::Event { id: raised.event }) else { panic!("no event") };
    assert_eq!(event.source, "203.0.113.7".parse().ok());
    assert_eq!(room.ask(&ObserverRequest::Acknowledge { ids: vec![raised.id], by: "ada".into() }), ObserverResponse::Done { changed: 1 });
    assert_eq!(room.status().alerts_open, 0);
    room.end(Signal::SIGTERM);
}

#[test]
fn what_was_stored_is_there_after_kill_9_and_a_garbage_flood_hurts_nobody() {
    let room = Room::open(tempfile::tempdir().unwrap());
    let mut sensor = UnixStream::connect(room.path().join("eve.sock")).unwrap();
    for n in 0..500 {
        sensor.write_all(alert(n).as_bytes()).unwrap();
    }
    room.wait_for("stored", |status| status.stored == 500);
    let folder = room.end(Signal::SIGKILL);

    let room = Room::open(folder);
    let page = ObserverRequest::Events { filter: EventFilter::default(), before: None, limit: 1_000 };
    let ObserverResponse::Events { events, .. } = room.ask(&page) else { panic!("no events") };
    assert_eq!(events.len(), 500);

    let mut sensor = UnixStream::connect(room.path().join("eve.sock")).unwrap();
    let garbage: Vec<u8> = (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    sensor.write_all(&garbage).unwrap();
    sensor.write_all(b"\n").unwrap();
    sensor.write_all(alert(7).as_bytes()).unwrap();
    let status = room.wait_for("stored", |status| status.stored == 1);
    assert!(status.garbled > 0 && status.troubles.is_empty(), "{status:?}");
    room.end(Signal::SIGTERM);
}

#[test]
fn wrong_questions_are_refused_with_a_reason_and_a_damaged_alert_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state/alerts.db"), vec![9; 30_000]).unwrap();
    std::fs::write(folder.path().join("observer.sock"), "left by a killed process").unwrap();
    let room = Room::open(folder);
    assert!(room.status().troubles[0].contains("alerts.damaged"));
    for (request, reason) in [
        (ObserverRequest::Event { id: 77 }, "not kept"),
        (ObserverRequest::Alert { id: 77 }, "no alert 77"),
        (ObserverRequest::Trend { from: 5, until: 5, buckets: 3 }, "after its beginning"),
    ] {
        let ObserverResponse::Refused { reason: said } = room.ask(&request) else { panic!("{request:?} was answered") };
        assert!(said.contains(reason), "{said}");
    }
    let none = ObserverRequest::Alerts { filter: AlertFilter::default(), before: None, limit: 10 };
    assert_eq!(room.ask(&none), ObserverResponse::Alerts { alerts: vec![], more: false, open: 0 });
    room.end(Signal::SIGTERM);
}
