"""What mapped clients and probes find in the lab's internet: who asked, names, bulk, and a line that stays open."""

import http.client
import os
import socket
import ssl
import struct
import threading

from namespaces import run

ADDRESS_PORT, BULK_PORT, ECHO_PORT, DOH_PORT = 8088, 9000, 9001, 8444
# The name that every question is answered with points here.
ANSWER = "192.0.2.99"


class Internet:
    """Threads in one namespace; `authority` is the PEM of whoever signed the DNS-over-HTTPS server's certificate."""

    def __init__(self, namespace, directory):
        self.sockets = []
        os.makedirs(directory, exist_ok=True)
        self.authority, chain, key = certificate(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        context.set_alpn_protocols(["http/1.1"])
        with namespace.inside():
            for port, answer in ((ADDRESS_PORT, _address), (BULK_PORT, _bulk), (ECHO_PORT, _echo), (53, _names), (DOH_PORT, lambda connection: _doh(connection, context))):
                server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
                self.sockets.append(server)
                threading.Thread(target=self._accept, args=(server, answer), daemon=True).start()

    def _accept(self, server, answer):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=_attend, args=(connection, answer), daemon=True).start()

    def close(self):
        for server in self.sockets:
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            server.close()


def _attend(connection, answer):
    try:
        with connection:
            connection.settimeout(60)
            answer(connection)
    except (OSError, ssl.SSLError, ValueError):
        pass


def _address(connection):
    """The asker's address and nothing else, as services for this purpose answer."""
    connection.recv(4096)
    text = connection.getpeername()[0].removeprefix("::ffff:")
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())


def _bulk(connection):
    """`N\\n` asks for N bytes; what else is sent is taken."""
    count = int(connection.makefile().readline())
    block = bytes(65536)
    while count > 0:
        connection.sendall(block[: min(count, len(block))])
        count -= len(block)


def _echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def _names(connection):
    """DNS over TCP (RFC 1035 section 4.2.2)."""
    stream = connection.makefile("rwb")
    while len(head := stream.read(2)) == 2:
        answer = answered(stream.read(struct.unpack("!H", head)[0]))
        stream.write(struct.pack("!H", len(answer)) + answer)
        stream.flush()


def _doh(connection, context):
    with context.wrap_socket(connection, server_side=True) as secure:
        stream = secure.makefile("rwb")
        while line := stream.readline():
            method = line.split()[0]
            headers = http.client.parse_headers(stream)
            if method != b"POST" or headers.get("Content-Type") != "application/dns-message":
                stream.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            else:
                answer = answered(stream.read(int(headers["Content-Length"])))
                stream.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
            stream.flush()


def question(name, identifier=0x1234):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def answered(query):
    """The question with one A record."""
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ANSWER)
    end = query.index(b"\0", 12) + 5
    return query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + query[12:end] + record


def certificate(directory):
    """An authority and a certificate of dns.example.net; returns the authority's PEM, and the files of certificate and key."""
    at = lambda name: os.path.join(directory, name)  # noqa: E731
    with open(at("extensions"), "w") as file:
        file.write("subjectAltName=DNS:dns.example.net\nbasicConstraints=CA:FALSE\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("openssl", "req", "-x509", *curve, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-days", "30", "-subj", "/CN=lab")
    run("openssl", "req", "-new", *curve, "-keyout", at("key"), "-out", at("request"), "-subj", "/CN=dns.example.net")
    run(
        "openssl", "x509", "-req", "-in", at("request"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial",
        "-days", "30", "-extfile", at("extensions"), "-out", at("pem"),
    )
    with open(at("ca.pem")) as file:
        return file.read(), at("pem"), at("key")
