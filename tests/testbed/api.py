"""What tests and the demo need of the test bed: addresses, images, and the faults that they cause on purpose."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import cluster, daemons, images
from testbed.layout import CONTAINERD_SOCKET, KAFKA_BOOTSTRAP, KAFKA_IN_CLUSTER, NODE_NAME, Layout
from testbed.shell import TestbedError, run


@dataclass(frozen=True)
class Testbed:
    """The running cluster of this checkout. Making one starts nothing; see `is_up` and `up`."""

    __test__ = False  # not a pytest class

    layout: Layout

    @classmethod
    def of_this_checkout(cls) -> Testbed:
        return cls(Layout.of_this_checkout())

    kafka_bootstrap = KAFKA_BOOTSTRAP
    kafka_in_cluster = KAFKA_IN_CLUSTER
    containerd_socket = CONTAINERD_SOCKET
    node = NODE_NAME

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    @property
    def bin(self) -> Path:
        return self.layout.bin

    def image(self, name: str) -> str:
        """The reference of a loaded image: `operator`, `job`, `base`, `kafka`, …"""
        known = images.read_references(self.layout)
        if name not in known:
            raise TestbedError(f"image `{name}` is not loaded: run `make images`")
        return known[name]

    def environment(self) -> dict[str, str]:
        """The process environment in which `kubectl` and `helm` are this cluster's."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": f"{self.bin}:{os.environ.get('PATH', '')}"}

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float | None = 120) -> str:
        return run([self.bin / "kubectl", "--kubeconfig", self.kubeconfig, *args], stdin=stdin, timeout=timeout)

    def is_up(self) -> bool:
        return cluster.is_up(self.layout)

    def up(self) -> None:
        cluster.up(self.layout)

    def load_images(self, names: Sequence[str] = images.PRODUCT_IMAGES) -> dict[str, str]:
        """Builds and loads these images; returns name -> reference."""
        return cluster.load_images(self.layout, names)

    def stop_daemon(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """A fault on purpose: `kubelet`, `kube-apiserver`, `etcd`, `kube-scheduler`, … Containers go on running."""
        daemons.stop(name, how)

    def start_daemon(self, name: str) -> None:
        """Starts a stopped daemon again and waits until it answers."""
        cluster.start_daemon(self.layout, name)
