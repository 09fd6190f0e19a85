"""Raw frames and captures: what a wire carries, made and seen without any help of the kernel's sockets."""

import socket
import struct
import threading
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pack(family, address):
    return socket.inet_pton(family, address)


def ip(source, target, protocol, payload, ttl=64):
    """An IPv4 or IPv6 packet, by the form of the addresses."""
    if ":" in target:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl)
        return head + _pack(socket.AF_INET6, source) + _pack(socket.AF_INET6, target) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, ttl, protocol, 0)
    head += _pack(socket.AF_INET, source) + _pack(socket.AF_INET, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def _pseudo(source, target, protocol, length):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    return _pack(family, source) + _pack(family, target) + struct.pack("!II", length, protocol)


def tcp(source, target, sport, dport, flags, sequence=1, payload=b""):
    segment = struct.pack("!HHIIBBHHH", sport, dport, sequence, 0, 5 << 4, flags, 64240, 0, 0) + payload
    total = checksum(_pseudo(source, target, 6, len(segment)) + segment)
    return ip(source, target, 6, segment[:16] + struct.pack("!H", total) + segment[18:])


def udp(source, target, sport, dport, payload=b""):
    datagram = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    total = checksum(_pseudo(source, target, 17, len(datagram)) + datagram) or 0xFFFF
    return ip(source, target, 17, datagram[:6] + struct.pack("!H", total) + datagram[8:])


def echo(source, target, identifier, sequence, payload=b"portcullis"):
    if ":" in target:
        message = struct.pack("!BBHHH", 128, 0, 0, identifier, sequence) + payload
        total = checksum(_pseudo(source, target, 58, len(message)) + message)
        return ip(source, target, 58, message[:2] + struct.pack("!H", total) + message[4:])
    message = struct.pack("!BBHHH", 8, 0, 0, identifier, sequence) + payload
    return ip(source, target, 1, message[:2] + struct.pack("!H", checksum(message)) + message[4:])


class Wire:
    """One end of a link on which whole frames are written."""

    def __init__(self, namespace, port, gateway_mac):
        with namespace.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.bind((port, 0))
        self.head = bytes.fromhex(gateway_mac.replace(":", "")) + self.socket.getsockname()[4]

    def send(self, packet):
        kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
        self.socket.send(self.head + kind + packet)

    def close(self):
        self.socket.close()


class Flood(threading.Thread):
    """Sends the packets in turn, about `rate` a second, until stopped; a link that is down for the moment does not stop it."""

    def __init__(self, wire, packets, rate=1000):
        super().__init__(daemon=True)
        self.wire, self.packets, self.rate, self.sent, self.over = wire, packets, rate, 0, False

    def run(self):
        due = time.monotonic()
        while not self.over:
            for packet in self.packets:
                try:
                    self.wire.send(packet)
                    self.sent += 1
                except OSError:
                    pass
            due += len(self.packets) / self.rate
            time.sleep(max(0.0, due - time.monotonic()))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.join()
        self.wire.close()


class Capture:
    """Every frame that arrives in a namespace, on whatever port, also on ports that appear later."""

    def __init__(self, namespace, wanted):
        self.wanted = wanted
        self.frames = []
        with namespace.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.settimeout(0.05)
        self.over = False
        self.lost = 0
        self.seen = 0
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        while True:
            try:
                packet, address = self.socket.recvfrom(65535)
            except TimeoutError:
                if self.over:
                    return
                continue
            except OSError:
                continue
            # 4 is PACKET_OUTGOING: what this machine itself sends is no evidence.
            if address[2] != 4:
                self.seen += 1
                if self.wanted(packet):
                    self.frames.append(packet)

    def stop(self):
        self.over = True
        self.thread.join()
        _, self.lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.socket.close()
        # A capture that lost frames has not shown their absence.
        if self.lost:
            raise RuntimeError(f"the capture lost {self.lost} frames")
        return self.frames

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.over:
            self.stop()


def carries(marker):
    """Frames with this text in them."""
    return lambda packet: marker in packet
