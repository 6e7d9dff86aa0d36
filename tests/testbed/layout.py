"""Where everything of the test bed lives, and the numbers and addresses that several modules share.

Three places with three life spans. The checkout's `.testbed/` holds one cluster's state and goes with it.
The machine-wide run folder holds what must have short paths (Unix sockets allow 107 bytes, checkouts may be
deep) and what tells another checkout who owns the cluster. The cache outlives both, so that a fresh clone
starts at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1]

RUN = Path("/run/dedup-testbed")
LOCK_FILE = Path("/run/dedup-testbed.lock")
CONTAINERD_SOCKET = RUN / "containerd.sock"
CGROUP = "dedup-testbed"

NODE_NAME = "node1"
NODE_IP = "10.89.0.1"
NODE_BRIDGE = "dedupnode0"
POD_BRIDGE = "deduppods0"
POD_CIDR = "10.244.0.0/24"
CLUSTER_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
API_PORT = 6443
ETCD_PORT = 2379
KAFKA_HOST_PORT = 9094
KAFKA_BOOTSTRAP = f"127.0.0.1:{KAFKA_HOST_PORT}"
KAFKA_IN_CLUSTER = "kafka.kafka.svc:9092"


def cache_root() -> Path:
    explicit = os.environ.get("DEDUP_CACHE")
    if explicit:
        return Path(explicit).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "dedup-operator"


@dataclass(frozen=True)
class Layout:
    """The paths of one checkout's cluster."""

    state: Path
    cache: Path

    @classmethod
    def of_this_checkout(cls) -> Layout:
        return cls(state=CHECKOUT / ".testbed", cache=cache_root())

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def bin(self) -> Path:
        return self.state / "bin"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def images_json(self) -> Path:
        return self.state / "images.json"

    @property
    def before_json(self) -> Path:
        """What the machine looked like before the cluster; kept after `down` for `leftovers`."""
        return self.state / "before.json"

    def make_folders(self) -> None:
        for folder in (self.state, self.bin, self.log, self.pki, self.config, self.volumes, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        (self.state / ".gitignore").write_text("*\n")
