"""Runs etcd, API server and controllers on free loopback ports.

It takes the programs from the test bed's cache. State, certificates and logs are in a temporary folder. It starts no
node and no scheduler, and makes no cgroup and no firewall rule. Therefore it needs no root, and other clusters on the
machine can run beside it.
"""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from testbed import golang, pki, probes
from testbed.daemons import Daemon
from testbed.layout import Layout, cache_root
from testbed.packages import ensure_system_packages
from testbed.ports import find_free_ports
from testbed.shell import TestbedError, environment

COMMANDS = {"openssl": "openssl", "setpriv": "util-linux"}
CONTROLLERS = (
    "statefulset-controller",
    "job-controller",
    "cronjob-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "ttl-after-finished-controller",
)
"""The controllers that act on the operator's objects. The simulated node acts on pods and volumes."""
SUBJECTS = {name: pki.SUBJECTS[name] for name in ("apiserver", "admin")}
LOG_TAIL = 2000
STOP_SECONDS = 5.0


def ensure_programs() -> dict[str, Path]:
    """Returns the programs from the cache, and builds those that are missing, which takes minutes. `make
    test-fault-injection` calls this before pytest starts, because each test has a time limit."""
    checkout = Layout.of_this_checkout()
    checkout.make_folders()
    ensure_system_packages(checkout.log / "packages.log", COMMANDS)
    return golang.ensure_binaries(checkout, {"etcd", "kube-apiserver", "kube-controller-manager"})


@dataclass
class ControlPlane:
    """Call `start`, create the CRDs, then call `start_controllers`. `stop` ends all programs and removes their
    files."""

    layout: Layout
    api_port: int
    etcd_port: int
    peer_port: int
    controllers_port: int
    binaries: dict[str, Path]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def prepare(cls) -> ControlPlane:
        """Chooses a temporary folder and free ports. It starts nothing."""
        binaries = ensure_programs()
        layout = Layout(Path(tempfile.mkdtemp(prefix="dedup-fault-injection-")), cache_root())
        layout.make_folders()
        api, etcd, peer, controllers = find_free_ports(4)
        return cls(layout, api, etcd, peer, controllers, binaries)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def etcd(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    def build_ssl(self) -> ssl.SSLContext:
        """Credentials of the cluster's administrator."""
        context = ssl.create_default_context(cafile=str(self.layout.pki / "ca.crt"))
        context.load_cert_chain(self.layout.pki / "admin.crt", self.layout.pki / "admin.key")
        return context

    def start(self) -> None:
        pki.make_certificates(self.layout, SUBJECTS)
        self.layout.kubeconfig.write_text(pki.render_kubeconfig(self.layout.pki, "admin", self.server))
        self._start(self._build_etcd())
        self._start(self._build_api_server())

    def start_controllers(self) -> None:
        """Call it after the CRDs exist: the garbage collector reads the list of kinds at its start, and again only
        after 30 s."""
        self._start(self._build_controllers())

    def stop(self) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):
            for process in self._running.values():
                if process.poll() is None:
                    process.send_signal(how)
            deadline = time.monotonic() + STOP_SECONDS
            while any(process.poll() is None for process in self._running.values()) and time.monotonic() < deadline:
                time.sleep(0.05)
        shutil.rmtree(self.layout.state, ignore_errors=True)

    def describe(self) -> str:
        """Returns the end of every log."""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-LOG_TAIL:]}" for path in self.layout.log.glob("*.log"))

    def _start(self, daemon: Daemon) -> None:
        log = self.layout.log / f"{daemon.name}.log"
        # The kernel kills the program when this process ends, also when this process is killed.
        command = ["setpriv", "--pdeathsig", "KILL", *daemon.args]
        with log.open("ab") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.layout.state,
                env=environment(without_proxy=True),
            )
        self._running[daemon.name] = process
        deadline = time.monotonic() + daemon.ready_within
        while not daemon.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TestbedError(f"{daemon.name} does not start: {log.read_text(errors='replace')[-LOG_TAIL:]}", log)
            time.sleep(0.05)

    def _command(self, name: str, *flags: str, ready: Callable[[], bool]) -> Daemon:
        return Daemon(name, (str(self.binaries[name]), *flags), ready)

    def _build_etcd(self) -> Daemon:
        peer = f"http://127.0.0.1:{self.peer_port}"
        return self._command(
            "etcd",
            f"--data-dir={self.layout.state}/etcd",
            f"--listen-client-urls={self.etcd}",
            f"--advertise-client-urls={self.etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            ready=lambda: probes.etcd_ready(self.etcd_port),
        )

    def _build_api_server(self) -> Daemon:
        certificates = self.layout.pki
        return self._command(
            "kube-apiserver",
            f"--etcd-servers={self.etcd}",
            f"--secure-port={self.api_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--client-ca-file={certificates}/ca.crt",
            f"--tls-cert-file={certificates}/apiserver.crt",
            f"--tls-private-key-file={certificates}/apiserver.key",
            f"--service-account-key-file={certificates}/sa.pub",
            f"--service-account-signing-key-file={certificates}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            # tests/cluster tests rights and service accounts. Without them a new namespace can be used at once.
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=ServiceAccount",
            "--enable-priority-and-fairness=false",
            "--profiling=false",
            ready=lambda: probes.api_ready(self.layout, self.api_port),
        )

    def _build_controllers(self) -> Daemon:
        return self._command(
            "kube-controller-manager",
            f"--kubeconfig={self.layout.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.controllers_port}",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--profiling=false",
            ready=lambda: probes.http_ok(f"https://127.0.0.1:{self.controllers_port}/healthz"),
        )
