"""HAProxy before the pages, from the same template as on the box."""

import os
import shutil

from namespaces import run

TEMPLATE = "templates/services/haproxy/front.cfg"


def configure(lab):
    """A certificate for this lab, signed by itself; the config reads its paths from the environment."""
    folder = os.path.join(lab.state_dir, "front")
    certificate = os.path.join(folder, "front.pem")
    if os.path.exists(certificate):
        return
    key = os.path.join(folder, "key.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=portcullis",
        "-addext", "subjectAltName=IP:192.168.77.1,DNS:portcullis", "-keyout", key, "-out", certificate)
    with open(certificate, "a") as chain, open(key) as text:
        chain.write(text.read())
    os.unlink(key)
    os.chmod(certificate, 0o600)
    shutil.chown(certificate, "portcullis-front", "portcullis-front")


def argv(lab):
    return ["haproxy", "-db", "-f", os.path.join(lab.root, TEMPLATE)]
