"""Small servers for the lab's machines: each answers with its own name and whom it saw, so that translation shows."""

import socket
import threading


class Servers:
    """TCP and UDP on all addresses of one namespace, both families."""

    def __init__(self, namespace, name, tcp=(), udp=()):
        self.name = name
        self.sockets = []
        with namespace.inside():
            for port in tcp:
                self._serve(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64), self._accept)
            for port in udp:
                server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                # Answers must come from the address that was asked, also where a machine has several.
                server.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                server.bind(("::", port))
                self._serve(server, self._datagrams)

    def _serve(self, server, loop):
        self.sockets.append(server)
        threading.Thread(target=loop, args=(server,), daemon=True).start()

    def _accept(self, server):
        while True:
            try:
                connection, peer = server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection, peer), daemon=True).start()

    def _answer(self, connection, peer):
        with connection:
            try:
                connection.settimeout(5)
                connection.recv(4096)
                text = self._text(peer)
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
            except OSError:
                pass

    def _datagrams(self, server):
        while True:
            try:
                _, control, _, peer = server.recvmsg(2048, 256)
                if peer is None:  # shut down
                    return
                # The control message that names our address, returned, chooses it as the answer's source.
                server.sendmsg([self._text(peer).encode()], [message for message in control if message[0] == socket.IPPROTO_IPV6], 0, peer)
            except OSError:
                # One client's ICMP error; the others still want their answers.
                if server.fileno() < 0:
                    return

    def _text(self, peer):
        return f"{self.name} saw {peer[0].removeprefix('::ffff:')}\n"

    def close(self):
        for server in self.sockets:
            # close() alone would leave accept() waiting and the namespace alive.
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            server.close()
