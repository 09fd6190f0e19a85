#!/usr/bin/env python3
"""The image in QEMU, with its serial console in this terminal; `scripts/boot` is how it is called.

The box has two ports. Behind the first, which leads out, QEMU plays an internet that this machine's own network carries. Behind the second, the
LAN's, is this machine: a port of its loopback leads to the box's pages.
"""

import argparse
import os
import socket
import ssl
import sys
import threading
import time

from machine import AGENT_CREDENTIALS, Machine, UserPort, image

LAN = "net=192.168.1.0/24,host=192.168.1.254,dns=192.168.1.253,dhcpstart=192.168.1.100,restrict=on"
BOX = "192.168.1.1:443"


def main():
    options = argparse.ArgumentParser(prog="scripts/boot")
    options.add_argument("--port", type=int, default=8443, help="where the pages are to be found on 127.0.0.1 (8443)")
    options.add_argument("--memory", type=int, default=1024, help="MiB of memory (1024)")
    options.add_argument("--fresh", action="store_true", help="forget what the box has stored and start with a new disk")
    options.add_argument("--check", action="store_true", help="no terminal: only whether the login page answers, and after how long")
    options = options.parse_args()

    ports = [UserPort("52:54:00:70:63:01"), UserPort("52:54:00:70:63:02", LAN, forwards=[(options.port, BOX)])]
    box = Machine("build/qemu/check" if options.check else "build/qemu/boot", ports, options.memory)
    if options.fresh or options.check or not os.path.exists(box.disk) or os.path.getmtime(box.disk) < os.path.getmtime(image()):
        box.write_disk()
    return check(box, options.port) if options.check else stay(box, options.port)


def stay(box, port):
    print(f"Ctrl-A X switches the box off. Its pages will be at https://127.0.0.1:{port}\n", flush=True)
    began = time.monotonic()
    threading.Thread(target=lambda: tell(wait_for_pages(port), began, port), daemon=True).start()
    return box.power_on_in_terminal()


def tell(title, began, port):
    if title:
        print(f"\r\n[{title!r} is at https://127.0.0.1:{port}, {time.monotonic() - began:.0f} s after power-on]\r\n", flush=True)


def check(box, port, patience=600):
    box.credentials = AGENT_CREDENTIALS
    box.power_on()
    try:
        title = wait_for_pages(port, patience, lambda: box.running)
        shut = not box.agent.said_hello
        print(f"boot: {box.seconds():.0f} s to the page {title!r}" if title else f"no page within {patience} s; the console's last words:\n{box.console.text[-3000:]}")
        print("what the hypervisor wanted to be started was not" if shut else "the hypervisor could start a program in the box")
    finally:
        box.pull_the_plug()
    os.unlink(box.disk)
    print("1 passed, 0 failed" if title and shut else "0 passed, 1 failed")
    return 0 if title and shut else 1


def wait_for_pages(port, patience=3600, alive=lambda: True):
    """The title of the page that a browser would see first, or None."""
    end = time.monotonic() + patience
    while time.monotonic() < end and alive():
        if title := first_page(port):
            return title
        time.sleep(0.5)
    return None


def first_page(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    path, text = "/", b""
    try:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode())
                text = b""
                while chunk := connection.recv(65536):
                    text += chunk
            head = text.partition(b"\r\n\r\n")[0].decode(errors="replace")
            moved = [line.partition(":")[2].strip() for line in head.splitlines() if line.lower().startswith("location:")]
            if not moved:
                break
            path = moved[0]
    except OSError:
        return None
    return text.partition(b"<title>")[2].partition(b"</title>")[0].decode(errors="replace").strip() or None


if __name__ == "__main__":
    sys.exit(main())
