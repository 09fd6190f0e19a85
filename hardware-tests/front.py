"""HAProxy before the pages, started as its unit on the box starts it: once there are a config and a certificate."""

import os


def _files(lab):
    # The applier writes the config, since it follows from the policy; control writes the certificate, whose key it keeps.
    return os.path.join(lab.run_dir, "files/admin-front/haproxy.cfg"), os.path.join(lab.run_dir, "front.pem")


def can_start(lab):
    return all(map(os.path.exists, _files(lab)))


def argv(lab):
    # The applier asks for a reload through the master's socket when a generation changes the config.
    return ["haproxy", "-W", "-db", "-S", f"{lab.run_dir}/admin-front-master.sock,mode,666", "-f", _files(lab)[0]]
