use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use kernel::sockets;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use policy::messages::forwarder::{SOCKETS, SocketKind, WORKERS};

use crate::space::{alone, run};

#[test]
fn every_worker_has_its_own_socket_of_each_kind() {
    alone(|| {
        let made = sockets::for_the_forwarder().unwrap();
        assert_eq!(made.len(), WORKERS * SOCKETS.len());
        let listed = run("ss", &["-Hltn"]);
        for place in ["0.0.0.0:61080", "[::]:61080", "0.0.0.0:61081", "[::]:61081"] {
            assert_eq!(listed.matches(place).count(), WORKERS, "{place} in {listed}");
        }
        let listed = run("ss", &["-Hlun"]);
        for place in ["0.0.0.0:61082", "[::]:61082"] {
            assert_eq!(listed.matches(place).count(), WORKERS, "{place} in {listed}");
        }
    });
}

#[test]
fn a_port_that_somebody_else_holds_is_told_by_name() {
    alone(|| {
        let _other = UdpSocket::bind("0.0.0.0:61082").unwrap();
        let told = sockets::open(SocketKind::Datagrams4).unwrap_err().to_string();
        assert!(told.contains("Datagrams4"), "{told}");
    });
}

#[test]
fn handed_over_sockets_are_the_same_and_live_on_where_they_came_from() {
    alone(|| {
        let made = sockets::for_the_forwarder().unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let long = vec![7; 1000];
        sockets::hand_over(&here, &long, &made.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        let (bytes, received) = receive(&there, made.len());
        assert_eq!((bytes, received.len()), (1000, made.len()));
        drop(received);
        assert!(run("ss", &["-Hltn"]).contains("61080"), "they ended with the receiver's");
    });
}

/// As the forwarder takes them.
pub fn receive(stream: &UnixStream, count: usize) -> (usize, Vec<OwnedFd>) {
    assert!(count <= 16);
    let mut bytes = [0; 4096];
    let mut space = cmsg_space!([std::os::fd::RawFd; 16]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel just opened them for us, and nobody else knows them.
            descriptors.extend(received.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    (message.bytes, descriptors)
}
