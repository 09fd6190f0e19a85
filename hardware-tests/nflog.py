"""What the box logs: a listener on an NFLOG group, straight on netlink (include/uapi/linux/netfilter/nfnetlink_log.h)."""

import socket
import struct
import threading

NETLINK_NETFILTER = 12
NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET, NFULNL_MSG_CONFIG = 4, 0, 1
NFULA_CFG_CMD, NFULA_CFG_MODE, NFULA_CFG_QTHRESH = 1, 2, 5
NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET = 1, 2
NFULA_PAYLOAD, NFULA_PREFIX = 9, 10


def _attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


class Log:
    """Collects (prefix, packet) of one group in one namespace; only one listener can hold a group."""

    def __init__(self, namespace, group=1):
        self.entries = []
        with namespace.inside():
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self._configure(group, _attribute(NFULA_CFG_CMD, bytes([NFULNL_CFG_CMD_BIND])))
        self._configure(group, _attribute(NFULA_CFG_MODE, struct.pack("!IBB", 0xFFFF, NFULNL_COPY_PACKET, 0)))
        # Every packet at once; otherwise the kernel gathers them for a second.
        self._configure(group, _attribute(NFULA_CFG_QTHRESH, struct.pack("!I", 1)))
        self.socket.settimeout(0.05)
        self.over = False
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _configure(self, group, attribute):
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, group) + attribute
        # Flags: NLM_F_REQUEST | NLM_F_ACK.
        self.socket.send(struct.pack("=IHHII", 16 + len(body), NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, 5, 1, 0) + body)
        error = struct.unpack_from("=i", self.socket.recv(4096), 16)[0]
        if error:
            raise OSError(-error, f"NFLOG group {group}")

    def _collect(self):
        while not self.over:
            try:
                data = self.socket.recv(1 << 17)
            except TimeoutError:
                continue
            except OSError:
                continue
            self._messages(data)

    def _messages(self, data):
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind == (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET):
                self._packet(data[20:length])
            data = data[(length + 3) & ~3:] if length else b""

    def _packet(self, attributes):
        prefix, payload = "", b""
        while len(attributes) >= 4:
            length, kind = struct.unpack_from("=HH", attributes)
            value = attributes[4:length]
            if kind & 0x7FFF == NFULA_PREFIX:
                prefix = value.rstrip(b"\0").decode(errors="replace")
            elif kind & 0x7FFF == NFULA_PAYLOAD:
                payload = value
            attributes = attributes[max(4, (length + 3) & ~3):]
        self.entries.append((prefix, payload))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
        self.socket.close()
