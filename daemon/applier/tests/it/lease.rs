//! A port whose address comes from a DHCP server: dhcpcd as its unit starts it, dnsmasq as the provider.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::applier::Applier;
use crate::office::{FAR, Office, policy};

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that dhcpcd takes its helpers along.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::SIGTERM).ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_leased_port_gets_its_address_and_carries_the_lan_and_that_is_no_drift() {
    let office = Office::new();
    let folder = tempfile::tempdir().unwrap();
    let mut applier = Applier::new();
    applier.start(&office.gate);
    let nat = "---\napiVersion: portcullis/v1\nkind: NatPolicy\nmetadata: { name: nat }\nspec:\n  rules:\n    - { name: out, type: masquerade, to: wan }\n";
    let text = policy("lan", "    - { name: web, from: lan, to: wan, services: tcp/80, action: accept }\n");
    let (before, _) = text.split_once("---\napiVersion: portcullis/v1\nkind: Route").unwrap();
    let (_, rules) = text.split_once("---\napiVersion: portcullis/v1\nkind: FirewallPolicy").unwrap();
    let leased = before.replace("addresses: [203.0.113.2/24]", "dhcp: [ipv4]");
    applier.keep(&format!("{leased}---\napiVersion: portcullis/v1\nkind: FirewallPolicy{rules}{nat}"));

    let leases = folder.path().join("leases");
    let _provider = office.far.run(move || {
        let child = Command::new("dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--user=root"])
            .args(["--dhcp-range=203.0.113.50,203.0.113.60,1h", "--dhcp-option=3,203.0.113.1"])
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed");
        Daemon(child)
    });
    let config = applier.folder.path().join("files/dhcp/dhcpcd.conf");
    assert!(config.exists(), "{}", applier.log());
    let _client = office.gate.run(move || {
        // Its pid file and sockets are at fixed places; this one gets places of its own.
        let script = format!(
            "mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p /run/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && exec dhcpcd -B -f {}",
            config.display()
        );
        Daemon(Command::new("unshare").args(["-m", "sh", "-c", &script]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("unshare"))
    });
    applier.until("a lease", Duration::from_secs(60), || office.gate.ip("addr show dev wan0").contains("inet 203.0.113.5"));
    applier.until("a default route", Duration::from_secs(5), || office.gate.ip("route").contains("default via 203.0.113.1"));
    Office::listen(&office.far, &format!("{FAR}:80"));
    Office::dial(&office.client, &format!("{FAR}:80"), Duration::from_secs(5)).expect("masqueraded to the leased address");
    assert_eq!(applier.drift(), []);
    let counters = format!("{:?}", applier.ask(&policy::messages::ApplierRequest::Counters));
    assert!(counters.contains("203.0.113.5"), "{counters}");
}
