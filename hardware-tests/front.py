"""HAProxy before the pages, started as its unit on the box starts it: once there is a config to start with."""

import os

MASTER_SOCKET = "front-master.sock"


def config(lab):
    return os.path.join(lab.state_dir, "control", "front", "front.cfg")


def argv(lab):
    return ["haproxy", "-W", "-db", "-S", f"{os.path.join(lab.run_dir, MASTER_SOCKET)},mode,666", "-f", config(lab)]
