"""The image as a whole: what its first boot makes, what its kernel can do, and what is open on it."""

import probes
from scan import open_ports
from stage import BOX_WAN4, BOX_WAN6, LAN_MAC, WAN_MAC, wait_until
from stories import expect, expect_true, story

GUEST_MAC, MGMT_MAC = "02:00:00:00:00:03", "02:00:00:00:00:04"


@story("the first boot makes the data partition, takes the rest of the disk for it, and leaves the second slot free")
def partitions(stage):
    listed = stage.box.run("lsblk -bnro PARTLABEL,SIZE,FSTYPE,MOUNTPOINTS /dev/vda")
    parts = [line.split(" ") for line in listed.splitlines()]
    data = [part for part in parts if part[0] == "portcullis-data"]
    expect([part[2:] for part in data], [["ext4", "/var"]], f"the data partition in {listed!r}")
    expect_true(int(data[0][1]) > 2 << 30, f"it has {data[0][1]} bytes of a disk of 4 GiB")
    expect(sum(part[0] == "_empty" for part in parts), 2, "parts of the free slot")
    return f"{int(data[0][1]) >> 20} MiB"


@story("the system is read-only and verified block by block; nothing but the data partition can be written")
def read_only(stage):
    expect_true(" verity " in stage.box.run("dmsetup table root"), "the root is under dm-verity")
    options = stage.box.run("findmnt -nro OPTIONS /").strip().split(",")
    expect_true("ro" in options, f"the root's options are {options}")
    expect_true(stage.box.run("touch /usr/x && echo written", check=False) == "", "a file in /usr cannot be made")


@story("lockdown stood before ports were looked for, and the policy before the network counts as there")
def order(stage):
    def when(unit, what):
        return int(stage.box.run(f"systemctl show -P {what}TimestampMonotonic {unit}"))

    lockdown, ports = when("portcullis-lockdown.service", "ActiveEnter"), when("systemd-udevd.service", "ActiveEnter")
    policy, network = when("portcullis-applier.service", "ActiveEnter"), when("network-pre.target", "ActiveEnter")
    expect_true(0 < lockdown <= ports, f"lockdown at {lockdown} us, ports are looked for from {ports} us")
    expect_true(lockdown < policy <= network, f"lockdown at {lockdown} us, policy at {policy} us, network at {network} us")
    return f"lockdown {lockdown / 1e6:.1f} s, policy {policy / 1e6:.1f} s after the kernel's start"


FEATURES = {
    "WireGuard": "ip link add wg0 type wireguard && ip link show wg0",
    "flowtables": "nft 'add table inet t; add flowtable inet t f { hook ingress priority 0; devices = { lo }; }; add chain inet t c { type filter hook forward priority 0; }; "
                  "add rule inet t c ip protocol tcp flow add @f' && nft list table inet t",
    "CAKE": "ip link set lo up && tc qdisc replace dev lo root cake bandwidth 50mbit && tc qdisc show dev lo | grep cake",
    "fq_codel": "tc qdisc replace dev lo root fq_codel && tc qdisc show dev lo | grep fq_codel",
    "queue": "nft 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c queue flags bypass to 1' && nft list table inet t | grep queue",
    "tproxy": "nft 'add table inet t; add chain inet t c { type filter hook prerouting priority mangle; }; add rule inet t c meta l4proto tcp tproxy to :1' && nft list table inet t | grep tproxy",
    "dummy": "ip link add d0 type dummy && ip link show d0",
    "VLAN": "ip link add d1 type dummy && ip link add link d1 name v1 type vlan id 7 && ip link show v1",
    "bond": "ip link add b0 type bond mode active-backup && ip link show b0",
    "bridge": "ip link add br9 type bridge && ip link show br9",
    "VRF": "ip link add vrf9 type vrf table 9 && ip link show vrf9",
    "AppArmor": "grep -x Y /sys/module/apparmor/parameters/enabled",
    "hardware watchdog": "test -c /dev/watchdog0",
    "TLS in the kernel": "modprobe tls && test -d /sys/module/tls",
}


@story("the kernel has what policies may ask for")
def kernel(stage):
    missing = {}
    for name, command in FEATURES.items():
        said = stage.box.run(f"unshare --net /bin/sh -c {_quoted(command)} >/dev/null && echo has it", check=False, errors=True)
        if not said.endswith("has it\n"):
            missing[name] = said.strip()
    expect(missing, {}, "what is missing, and what the kernel said")
    return ", ".join(FEATURES)


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


@story("root itself cannot flush the table away: the kernel keeps it for the applier")
def owned_table(stage):
    stage.box.run("nft flush ruleset; nft delete table inet portcullis", check=False)
    expect_true("chain forward" in stage.box.run("nft list ruleset"), "the table is still there")
    expect_true(stage.works(), "permitted traffic passes")
    expect(probes.tcp(stage.lan1, "198.51.100.10", 22, timeout=0.5), probes.SILENT, "forbidden traffic")


@story("from each side exactly the ports are open that the policy names")
def ports(stage):
    lan, guest = ((stage.lan1, "eth0"), (stage.lan, "box"), LAN_MAC), ((stage.guest, "eth0"), (stage.guest, "eth0"), GUEST_MAC)
    wan, mgmt = ((stage.inet, "wan"), (stage.inet, "wan"), WAN_MAC), ((stage.admin, stage.lab.far_port("mgmt0")),) * 2 + (MGMT_MAC,)
    found = {
        "lan": open_ports(*lan, "192.168.2.10", "192.168.2.1"),
        "lan, IPv6": open_ports(*lan, "fd00:2::10", "fd00:2::1"),
        "guest": open_ports(*guest, "192.168.3.10", "192.168.3.1"),
        "internet": open_ports(*wan, "203.0.113.1", BOX_WAN4),
        "internet, IPv6": open_ports(*wan, "2001:db8:113::1", BOX_WAN6),
        "management": open_ports(*mgmt, "192.168.77.2", "192.168.77.1"),
    }
    wanted = dict.fromkeys(found, set()) | {"internet": {8443}, "management": {443}}
    expect(found, wanted, "open TCP ports of 65,535")


@story("the pages of the image answer the administrator, with the set-up page first")
def set_up_page(stage):
    from api import Connection

    stage.lab.bring_files()
    wait_until(lambda: _page(Connection, stage) is not None, 120, "the pages answer")
    expect(_page(Connection, stage), 200, "status of the set-up page")


def _page(connection, stage):
    try:
        with connection(stage.lab, timeout=20.0) as open_:
            open_.socket.sendall(b"GET /setup HTTP/1.1\r\nHost: 192.168.77.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
            return int(open_.socket.recv(4096).split()[1])
    except (OSError, IndexError, ValueError):
        return None


@story("so much memory is in use")
def memory(stage):
    words = stage.box.run("free -b").split()
    used = int(words[words.index("Mem:") + 2])
    total = sum(int(line) for line in stage.box.run("cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum * 1024 }'").split())
    expect_true(used < 400 << 20, f"{used >> 20} MiB are in use")
    return f"{used >> 20} MiB in use, {total >> 20} MiB of them by processes"
