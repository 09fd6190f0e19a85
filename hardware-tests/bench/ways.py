"""The ways a connection can go in the benchmarks of carrying, and what each costs its process.

Every way leads from a machine on the LAN to the same server on up1 over the same links. Ours and the peers that speak SOCKS5 ask the
server's SOCKS port; HAProxy is told the destination; `direct` is the kernel's forwarding.
"""

import json
import os
import signal
import subprocess
import time

SERVER, SOCKS_PORT, PLAIN_PORT = "100.64.1.10", 1090, 7007
# Where a peer on the box listens, and the peer of a round with a real SOCKS5 server.
PORTS = {"haproxy": 12346, "redsocks": 12347, "v2ray": 12348, "redsocks-real": 12349}
WAYS = ("direct", "ours", "haproxy", "redsocks", "v2ray")
MICROSOCKS_PORT = 1080

POLICY = f"""---
{{ apiVersion: portcullis/v1, kind: Upstream, metadata: {{ name: fast }}, spec: {{ type: socks5, udp: false, address: {SERVER}, port: {SOCKS_PORT}, probe: "http://198.51.100.10:8088/" }} }}
---
apiVersion: portcullis/v1
kind: FirewallPolicy
metadata: {{ name: peers }}
spec: {{ rules: [{{ name: in, from: lan, to: box, services: tcp/12346-12349, action: accept }}] }}
"""

HAPROXY = f"""global
  maxconn 6000
  nbthread 2
defaults
  mode tcp
  option splice-request
  option splice-response
  timeout connect 5s
  timeout client 300s
  timeout server 300s
listen server
  bind :{PORTS["haproxy"]}
  server s {SERVER}:{PLAIN_PORT}
"""
REDSOCKS = """base {{ log_info = off; daemon = off; redirector = iptables; log = stderr; rlimit_nofile = 20000; redsocks_conn_max = 9000; }}
redsocks {{ local_ip = 0.0.0.0; local_port = {port}; ip = {server}; port = {socks}; type = socks5; splice = on; listenq = 4096; }}
"""
V2RAY = {
    "log": {"loglevel": "none"},
    "inbounds": [{
        "port": PORTS["v2ray"], "listen": "0.0.0.0", "protocol": "dokodemo-door",
        "settings": {"network": "tcp", "followRedirect": True}, "streamSettings": {"sockopt": {"tproxy": "redirect"}},
    }],
    "outbounds": [{"protocol": "socks", "settings": {"servers": [{"address": SERVER, "port": SOCKS_PORT}]}}],
}


class Ways:
    """The server, the peers in the box's namespace, and which of them lan2 is led to. lan1 is ours."""

    def __init__(self, lab, load, peers=True):
        self.lab, self.load = lab, load
        self.folder = os.path.join(lab.state_dir, "bench")
        os.makedirs(self.folder)
        for machine in (lab.lan1, lab.lan2):
            # A client has 60,000 ports for one server, as the box has.
            machine.sysctl("net.ipv4.ip_local_port_range", "1024 60999")
            machine.sysctl("net.ipv4.tcp_tw_reuse", 1)
        self.server = self._start(lab.upstreams["socks"].machine, load, "serve", str(SOCKS_PORT), str(PLAIN_PORT))
        self.processes = self._peers() if peers else {}
        time.sleep(1)
        for name, process in {"server": self.server, **self.processes}.items():
            if process.poll() is not None:
                with open(os.path.join(self.folder, "log")) as log:
                    raise SystemExit(f"{name} does not start:\n{log.read()}")

    def _peers(self):
        redsocks = {
            "redsocks": REDSOCKS.format(port=PORTS["redsocks"], server=SERVER, socks=SOCKS_PORT),
            "redsocks-real": REDSOCKS.format(port=PORTS["redsocks-real"], server=SERVER, socks=MICROSOCKS_PORT),
        }
        return {
            "haproxy": self._start(self.lab.box, "haproxy", "-db", "-f", self._file("haproxy", HAPROXY)),
            "v2ray": self._start(self.lab.box, "v2ray", "-config", self._file("v2ray.json", json.dumps(V2RAY))),
            **{name: self._start(self.lab.box, "redsocks", "-c", self._file(name, text)) for name, text in redsocks.items()},
        }

    def _file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def _start(self, machine, *argv):
        limited = machine.command("prlimit", "--nofile=20000", *argv)
        with open(os.path.join(self.folder, "log"), "ab") as log:
            return subprocess.Popen(limited, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def lead(self, way):
        """From now on lan2's connections to the server go this way."""
        self.lab.box.run("nft", "delete", "table", "ip", "bench", check=False)
        if way in PORTS:
            rule = f"iifname lan0 ip saddr 192.168.2.11 tcp dport {PLAIN_PORT} redirect to :{PORTS[way]}"
            self.lab.box.run("nft", f"table ip bench {{ chain in {{ type nat hook prerouting priority -101; {rule}\n}}\n}}")

    def client(self, way):
        return self.lab.lan1 if way.startswith("ours") else self.lab.lan2

    def ask(self, way, what, *arguments):
        """What the load program, on this way's client, says."""
        return self.client(way).run(self.load, what, f"{SERVER}:{PLAIN_PORT}", *map(str, arguments))

    def pid(self, way):
        """Of the process that carries; the kernel itself has none."""
        if way.startswith("ours"):
            return self.lab.processes["forwarder"].pid
        return self.processes[way].pid if way in self.processes else None

    def close(self):
        for process in (self.server, *self.processes.values()):
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def versions():
    names = ("haproxy", "redsocks", "v2ray", "microsocks")
    found = [subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Version}", name], capture_output=True, text=True).stdout for name in names]
    return ", ".join(filter(None, found))


def used(pid):
    """Seconds that a process and all its threads were on a processor, to the nanosecond; 0 for the kernel's own way."""
    if pid is None:
        return 0.0
    seconds = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            seconds += int(file.read().split()[0])
    return seconds / 1e9


def memory(pid):
    """RSS and PSS in MiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        figures = {line.split()[0]: int(line.split()[1]) / 1024 for line in file if line.startswith(("Rss:", "Pss:"))}
    return figures["Rss:"], figures["Pss:"]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Held:
    """Connections that a load program on a machine holds: `to(1000)` makes them so many."""

    def __init__(self, machine, load, first="0.0.0.0", sources=1):
        command = machine.command("prlimit", "--nofile=20000", load, "hold", f"{SERVER}:{PLAIN_PORT}", first, str(sources))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def to(self, wanted):
        self.process.stdin.write(f"{wanted}\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != str(wanted):
            raise ConnectionError(self.process.stderr.read().strip())
        time.sleep(1)

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
