"""The box's API, as an administrator's program uses it: HTTPS through the front, over connections that the story opens itself."""

import http.client
import json
import os
import socket
import ssl

from namespaces import wait_until

USER, PASSWORD = "ada", "a-long-password-for-the-lab-1"


class Refusal(Exception):
    """The API said no; `status` and `problem` are its answer."""

    def __init__(self, status, problem):
        super().__init__(f"{status}: {problem}")
        self.status, self.problem = status, problem


class Connection:
    """One TCP connection with TLS; a request over it never opens another."""

    def __init__(self, lab, namespace=None, address="192.168.77.1", port=443, timeout=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(os.path.join(lab.run_dir, "front.pem"))
        context.check_hostname = False
        with (namespace or lab.admin).inside():
            plain = socket.socket()
        plain.settimeout(timeout or max(5.0, lab.seconds(1)))
        plain.connect((address, port))
        self.host = address
        self.socket = context.wrap_socket(plain)

    def ask(self, method, path, body=None, token=None):
        """The answer's JSON; a status of 400 and above is raised."""
        headers = {"Host": self.host, "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        head = [f"{method} /api/v1{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), f"Content-Length: {len(data or b'')}"]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + (data or b""))
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        text = response.read()
        answer = json.loads(text) if text else None
        if response.status >= 400:
            raise Refusal(response.status, answer)
        return answer

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def administrator(lab):
    """A token of the first admin, who is created with the one-time code where there is none yet."""
    wait_until(lambda: _answers(lab), 10, "the pages answer")
    code_file = os.path.join(lab.run_dir, "setup-code")
    with Connection(lab) as connection:
        if os.path.exists(code_file):
            with open(code_file) as file:
                connection.ask("POST", "/setup", {"code": file.read().strip(), "user": USER, "password": PASSWORD})
    with Connection(lab) as connection:
        return connection.ask("POST", "/tokens", {"user": USER, "password": PASSWORD})["token"]


def _answers(lab):
    try:
        Connection(lab, timeout=0.5).close()
        return True
    except OSError:
        return False


def apply(connection, token, text, within=None):
    """The candidate replaced by this text and put on trial, as the pages do it: edit, preview, apply what was previewed."""
    version = connection.ask("GET", "/candidate", token=token)["version"]
    saved = connection.ask("PUT", "/candidate", {"version": version, "sources": {"office.yaml": text}}, token)
    if saved["problems"]:
        raise ValueError(saved["problems"])
    digest = connection.ask("GET", "/candidate/preview", token=token)["digest"]
    return connection.ask("POST", "/candidate/apply", {"digest": digest, "message": "a story", "confirmWithin": within}, token)
