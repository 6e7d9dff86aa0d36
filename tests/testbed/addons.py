"""What runs in the cluster from the start: DNS, the storage class, Kafka; applied again on every `up`."""

from __future__ import annotations

import contextlib
import string
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from testbed import probes
from testbed.layout import DNS_IP, KAFKA_HOST_PORT, PACKAGE, Layout
from testbed.shell import TestbedError, run

KAFKA_NAME = "kafka.kafka.svc.cluster.local"


def apply_manifests(layout: Layout, kubectl: Path, references: Mapping[str, str]) -> None:
    values = {
        "COREDNS": references["coredns"],
        "BASE": references["base"],
        "KAFKA": references["kafka"],
        "DNS_IP": DNS_IP,
        "HOST_PORT": str(KAFKA_HOST_PORT),
    }
    texts = [string.Template(path.read_text()).substitute(values) for path in sorted((PACKAGE / "manifests").glob("*.yaml"))]
    run([kubectl, "--kubeconfig", layout.kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-"], stdin="\n---\n".join(texts))


def deployment_available(layout: Layout, namespace: str, name: str) -> bool:
    return probes.condition_true(probes.api_object(layout, f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"), "Available")


def kafka_answers_on_host() -> bool:
    return probes.kafka_advertised("127.0.0.1", KAFKA_HOST_PORT) == f"127.0.0.1:{KAFKA_HOST_PORT}"


def kafka_answers_in_cluster(layout: Layout) -> bool:
    """Through the Service's address, with a name that the cluster's DNS knows."""
    service = probes.api_object(layout, "/api/v1/namespaces/kafka/services/kafka")
    if service is None or not probes.cluster_dns_resolves(KAFKA_NAME):
        return False
    return probes.kafka_advertised(service["spec"]["clusterIP"], 9092) == f"{KAFKA_NAME}:9092"


def wait(what: str, question: Callable[[], bool], within: float, explain: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + within
    while not question():
        if time.monotonic() > deadline:
            detail = explain()
            raise TestbedError(f"{what} after {within:.0f} s" + (f"\n{detail}" if detail else ""))
        time.sleep(0.2)


def restart_pods(layout: Layout, kubectl: Path) -> None:
    """Deletes the pods of DNS and Kafka without waiting; their controllers make new ones, Kafka's data stays."""
    for namespace, selector in (("kube-system", "k8s-app=kube-dns"), ("kafka", "app=kafka")):
        with contextlib.suppress(TestbedError, OSError, subprocess.TimeoutExpired):
            command: list[str | Path] = [kubectl, "--kubeconfig", layout.kubeconfig, "-n", namespace, "delete", "pod", "-l", selector]
            run([*command, "--force", "--grace-period=0"], timeout=30)


def describe(layout: Layout, kubectl: Path, namespace: str) -> Callable[[], str]:
    """The pods, the latest events and the end of the logs of a namespace: what a person would look at first."""

    def ask(*args: str) -> str:
        try:
            return run([kubectl, "--kubeconfig", layout.kubeconfig, "-n", namespace, *args], timeout=15).strip()
        except (TestbedError, OSError, subprocess.TimeoutExpired) as error:
            return str(error)

    def explain() -> str:
        pods = ask("get", "pods", "-o", "wide")
        events = "\n".join(ask("get", "events", "--sort-by=.lastTimestamp").splitlines()[-12:])
        names = ask("get", "pods", "-o", "name").split()
        logs = [f"--- log of {name}\n{ask('logs', '--tail=20', name)}" for name in names]
        return "\n".join([pods, events, *logs])

    return explain
