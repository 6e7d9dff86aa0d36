"""One certificate authority per cluster, the certificates that the components show each other, and kubeconfigs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from testbed.layout import API_PORT, API_SERVICE_IP, NODE_IP, NODE_NAME, Layout
from testbed.locks import write_atomically
from testbed.shell import run

DAYS = "365"
API_SERVER = f"https://127.0.0.1:{API_PORT}"

_API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost")
SERVING_NAMES: Mapping[str, str] = {
    "apiserver": ",".join([*(f"DNS:{n}" for n in _API_NAMES), "IP:127.0.0.1", f"IP:{API_SERVICE_IP}", f"IP:{NODE_IP}"]),
    "kubelet": f"DNS:{NODE_NAME},IP:{NODE_IP},IP:127.0.0.1",
}
SUBJECTS: Mapping[str, str] = {
    "apiserver": "/CN=kube-apiserver",
    "apiserver-kubelet": "/O=system:masters/CN=apiserver-kubelet",
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
    "local-path-provisioner": "/O=system:masters/CN=local-path-provisioner",
}
KUBECONFIG_USERS = tuple(name for name in SUBJECTS if not name.startswith("apiserver"))


def _key(path: Path, log: Path) -> None:
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path], log=log)
    path.chmod(0o600)


def make_certificates(layout: Layout, subjects: Mapping[str, str] = SUBJECTS) -> None:
    pki, log = layout.pki, layout.log / "pki.log"
    _key(pki / "ca.key", log)
    authority: list[str | Path] = ["-subj", "/CN=testbed-ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
    run(["openssl", "req", "-x509", "-new", "-key", pki / "ca.key", "-days", DAYS, *authority, "-out", pki / "ca.crt"], log=log)
    for name, subject in subjects.items():
        _certificate(pki, name, subject, log)
    _key(pki / "sa.key", log)
    run(["openssl", "pkey", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub"], log=log)


def _certificate(pki: Path, name: str, subject: str, log: Path) -> None:
    request, extensions = pki / f"{name}.csr", pki / f"{name}.ext"
    lines = ["keyUsage=critical,digitalSignature", "extendedKeyUsage=clientAuth,serverAuth"]
    if name in SERVING_NAMES:
        lines.append(f"subjectAltName={SERVING_NAMES[name]}")
    extensions.write_text("\n".join(lines) + "\n")
    _key(pki / f"{name}.key", log)
    run(["openssl", "req", "-new", "-key", pki / f"{name}.key", "-subj", subject, "-out", request], log=log)
    signer: list[str | Path] = ["-CA", pki / "ca.crt", "-CAkey", pki / "ca.key", "-CAcreateserial", "-days", DAYS, "-extfile", extensions]
    run(["openssl", "x509", "-req", "-in", request, *signer, "-out", pki / f"{name}.crt"], log=log)
    request.unlink()
    extensions.unlink()


def write_kubeconfigs(layout: Layout) -> None:
    """Certificates are embedded, so that a copied kubeconfig works anywhere on the machine."""
    for user in KUBECONFIG_USERS:
        write_atomically(layout.config / f"{user}.kubeconfig", render_kubeconfig(layout.pki, user), 0o600)
    write_atomically(layout.kubeconfig, render_kubeconfig(layout.pki, "admin"), 0o600)


def render_kubeconfig(pki: Path, user: str, server: str = API_SERVER) -> str:
    def data(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    return f"""apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster:
    server: {server}
    certificate-authority-data: {data("ca.crt")}
users:
- name: {user}
  user:
    client-certificate-data: {data(f"{user}.crt")}
    client-key-data: {data(f"{user}.key")}
contexts:
- name: testbed
  context: {{cluster: testbed, user: {user}}}
current-context: testbed
"""
