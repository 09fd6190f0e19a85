"""The sockets of applier and forwarder, spoken to directly: a big-endian length and JSON, as `policy::messages` says."""

import json
import os
import socket
import struct


class ApplierSocket:
    """One connection of a local caller."""

    def __init__(self, lab, name="applier.sock"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(os.path.join(lab.run_dir, name))

    def ask(self, request, **fields):
        message = json.dumps({"request": request, **fields}).encode()
        self.socket.sendall(struct.pack("!I", len(message)) + message)
        (length,) = struct.unpack("!I", self._exactly(4))
        return json.loads(self._exactly(length))

    def _exactly(self, length):
        data = bytearray()
        while len(data) < length:
            chunk = self.socket.recv(length - len(data))
            if not chunk:
                raise ConnectionError("the applier closed the connection")
            data += chunk
        return bytes(data)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
