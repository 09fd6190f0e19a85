//! Other machines: network namespaces at the far ends of the box's cables.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use crate::space::run;

pub struct Far {
    namespace: File,
}

impl Far {
    /// Plugs the box's port `port` into a new machine, where it is `eth0` with this hardware address.
    pub fn plug(port: &str, mac: &str) -> Far {
        let namespace = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            run("ip", &["link", "set", "lo", "up"]);
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("a setting of the far end");
            File::open("/proc/thread-self/ns/net").expect("the thread's namespace")
        });
        let far = Far { namespace: namespace.join().expect("the far end opens") };
        let path = format!("/proc/{}/fd/{}", std::process::id(), far.namespace.as_raw_fd());
        run("ip", &["link", "add", port, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", &path]);
        run("ip", &["link", "set", port, "up"]);
        far.within(|| run("ip", &["link", "set", "eth0", "up"]));
        far
    }

    /// Does something there; sockets that it opens stay there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("a way into the namespace");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn ip(&self, args: &[&str]) {
        self.within(|| run("ip", args));
    }

    pub fn connect(&self, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&to, patience))
    }
}
