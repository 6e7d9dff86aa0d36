"""Shared by the cluster tests: kubectl and helm that retry or wait, the DedupJobs of one namespace, Kafka topics."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from dedup_operator.domain.observe.pod import has_ended
from demo.access import Access
from demo.images import SOURCES, provide_images
from demo.preflight import DEFAULT_CLASS, find_architecture
from demo.settings import Settings
from testbed import clients, images
from testbed.api import Testbed
from testbed.layout import KAFKA_IN_CLUSTER

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "dedup-operator"
CRD = "dedupjobs.streamdedup.dev"
SYSTEM = "dedup-system"
RELEASE = "dedup-operator"
WRITTEN = "dedupjobs,statefulsets,jobs,cronjobs,services,configmaps,persistentvolumeclaims"
"""The kinds that the operator writes, without events."""

Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class Cluster:
    """The cluster under test. Methods that wait poll the API server; none sleeps for a fixed time."""

    access: Access
    settings: Settings
    test_bed: Testbed | None
    """None for a cluster that the user has named."""
    _images: dict[str, str] = field(default_factory=dict)

    @property
    def testbed(self) -> Testbed:
        assert self.test_bed is not None, "this test needs the test bed: give it the marker `testbed` with a reason"
        return self.test_bed

    @property
    def pull_policy(self) -> str:
        """Never where every image is loaded before it is used: then a missing one is noticed at once."""
        return "Never" if self.test_bed is not None or self.settings.load else "IfNotPresent"

    def load_image(self, name: str) -> str:
        """Builds an image of `SOURCES` and brings it into the cluster, once per test run. Returns the reference."""
        if name not in self._images:
            if self.test_bed is not None and name in images.IMAGES:
                self._images[name] = self.test_bed.load_images([name])[name]
            elif self.test_bed is not None:
                source = SOURCES[name]
                image = images.Image(name, source.repository, dockerfile=source.dockerfile, context=source.context)
                self._images[name] = load_test_bed_image(self.test_bed, image)
            else:
                built = provide_images([name], self.settings, self.access.context, find_architecture(self.access))
                self._images[name] = built[name].reference
        return self._images[name]

    def run(self, command: list[str], document: object = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of `access` with a document as JSON on stdin."""
        return subprocess.run(
            command,
            input=None if document is None else document if isinstance(document, str) else json.dumps(document),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=self.access.environment(),
        )

    def try_kubectl(self, *arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
        """For tests that look at kubectl's exit code and error message."""
        return self.run(self.access.kubectl_command(*arguments), document)

    def try_helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.access.helm_command(*arguments))

    def kubectl(self, *arguments: str, document: object = None, check: bool = True) -> str:
        done = self.try_kubectl(*arguments, document=document)
        assert done.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def helm(self, *arguments: str) -> str:
        done = self.try_helm(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def find(self, kind: str, name: str, namespace: str) -> Json | None:
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def get(self, kind: str, name: str, namespace: str) -> Json:
        found = self.find(kind, name, namespace)
        assert found is not None, f"{kind} {name} does not exist in {namespace}"
        return found

    def count_reconciliations(self, *, check: bool = True) -> float:
        """Reconciliations of the installed operator since its start. With `check` its metrics must be readable."""
        return count_reconciliations(self.read_operator("/metrics", check=check))

    def read_operator(self, path: str, *, check: bool = True) -> str:
        """What the installed operator answers on its HTTP port."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/services/{RELEASE}-metrics:http/proxy{path}", check=check)

    def create_namespace(self, name: str) -> None:
        """A namespace that enforces the restricted Pod Security Standard."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def copy_default_storage_class(self, name: str, annotations: dict[str, str] | None = None) -> None:
        """Creates a storage class of the default one's provisioner."""
        classes = json.loads(self.kubectl("get", "storageclass", "-o", "json"))["items"]
        default = next(item for item in classes if item["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true")
        kept = ("apiVersion", "kind", "provisioner", "parameters", "volumeBindingMode", "reclaimPolicy")
        copied = {key: default[key] for key in kept if key in default}
        self.kubectl("apply", "-f", "-", document={**copied, "metadata": {"name": name, "annotations": annotations or {}}})

    def find_values(self) -> Json | None:
        """The Helm values of the installed operator; None when no operator is installed."""
        if RELEASE not in self.helm("list", "-n", SYSTEM, "-q").split():
            return None
        found: Json | None = json.loads(self.helm("get", "values", RELEASE, "-n", SYSTEM, "-o", "json"))
        return found or {}

    def deploy(self, job_image: str, *, chart: Path = CHART, operator_image: str = "", **more: Any) -> None:
        """Installs or upgrades the chart and waits until the operator is ready."""
        values = {
            "image": self._image(operator_image or self.load_image("operator")),
            "job": {"image": self._image(job_image)},
            "resyncSeconds": 5,
            "logging": {"format": "text"},
        }
        self.install({**values, **more}, chart)

    def _image(self, reference: str) -> Json:
        repository, tag = reference.rsplit(":", 1)
        return {"repository": repository, "tag": tag, "pullPolicy": self.pull_policy}

    def install(self, values: Json, chart: Path = CHART) -> None:
        self.create_namespace(SYSTEM)
        flags = ["--take-ownership", "--wait", "--timeout", "180s"]
        version = clients.read_version("helm", self.access.helm_path)
        if version and version[0] >= 4:  # Helm 3 applies on the client's side, where there are no conflicts
            flags.append("--force-conflicts")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            self.helm("upgrade", "--install", RELEASE, str(chart), "-n", SYSTEM, "-f", file.name, *flags)

    def uninstall(self) -> None:
        self.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait")


def load_test_bed_image(test_bed: Testbed, image: images.Image) -> str:
    """Builds an image with the test bed and loads it. Returns the reference."""
    images.IMAGES = {**images.IMAGES, image.name: image}
    return test_bed.load_images([image.name])[image.name]


def count_reconciliations(metrics: str) -> float:
    """Reconciliations of all jobs, from the text of an operator's /metrics."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith("dedup_operator_reconcile_total{"))


def wait_until(check: Callable[[], T | None], what: str, seconds: float = 120, describe: Callable[[], object] = lambda: "") -> T:
    """Polls until `check` returns something true, and returns that. `what` and `describe` explain a timeout."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds:.0f} s: {what}\n{describe()}")
        time.sleep(0.5)


@dataclass
class Jobs:
    """The DedupJobs of one namespace."""

    cluster: Cluster
    namespace: str

    def apply(self, name: str, topic: str, **changes: Any) -> None:
        """Applies a small job. `changes` replace whole fields of its spec; None removes a field."""
        spec = {
            "source": {"bootstrapServers": KAFKA_IN_CLUSTER, "topic": topic},
            "key": {"fields": ["id"]},
            "eventTime": {"field": "ts"},
            "watermark": "10m",
            "trigger": {"processingTime": "2s"},
            "sink": {"console": {}},
            "checkpoint": {"claim": {"size": "1Gi"}},
            "driver": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1536Mi"}}},
        }
        spec.update(copy.deepcopy(changes))
        document = {
            "apiVersion": "streamdedup.dev/v1alpha1",
            "kind": "DedupJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {field: value for field, value in spec.items() if value is not None},
        }
        self.cluster.kubectl("apply", "-f", "-", document=document)

    def patch(self, name: str, **spec: Any) -> None:
        self.cluster.kubectl("patch", "dedupjob", name, "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec}))

    def get(self, name: str) -> Json:
        return self.cluster.get("dedupjob", name, self.namespace)

    def find(self, kind: str, name: str) -> Json | None:
        return self.cluster.find(kind, name, self.namespace)

    def get_object(self, kind: str, name: str) -> Json:
        return self.cluster.get(kind, name, self.namespace)

    def pod(self, name: str) -> Json | None:
        return self.find("pod", f"{name}-driver-0")

    def has_live_pod(self, name: str) -> bool:
        """A pod that has ended exists for a moment longer, until kubelet removes it."""
        pod = self.pod(name)
        return pod is not None and not has_ended(pod)

    def is_replaced(self, name: str, uid: str) -> bool:
        """Whether the driver has a pod with another UID than `uid`."""
        pod = self.pod(name)
        return pod is not None and pod["metadata"]["uid"] != uid

    def pod_uid(self, name: str) -> str:
        return str(self.cluster.get("pod", f"{name}-driver-0", self.namespace)["metadata"]["uid"])

    def condition(self, name: str, kind: str = "Ready") -> Json:
        found = self.find_condition(name, kind)
        assert found is not None, f"{name} has no condition {kind} of the current generation"
        return found

    def find_condition(self, name: str, kind: str = "Ready") -> Json | None:
        """None also when the operator computed the condition from an older metadata.generation."""
        job = self.get(name)
        found = [item for item in job.get("status", {}).get("conditions", []) if item["type"] == kind]
        current = found and found[0]["observedGeneration"] == job["metadata"]["generation"]
        return found[0] if current else None

    def wait_reason(self, name: str, reason: str, status: str, seconds: float = 180) -> Json:
        """Waits until Ready has this reason and status. Returns the condition, so that a test can check its message."""

        def check() -> Json | None:
            ready = self.find_condition(name)
            return ready if ready and (ready["reason"], ready["status"]) == (reason, status) else None

        return wait_until(check, f"{name} is {reason}", seconds, lambda: self.describe(name))

    def wait_gone(self, kind: str, name: str, seconds: float = 120) -> None:
        wait_until(lambda: self.find(kind, name) is None, f"{kind} {name} is gone", seconds)

    def read_versions(self) -> str:
        """The resource versions of the jobs and their objects, without pods, which kubelet writes."""
        columns = "custom-columns=:kind,:metadata.name,:metadata.resourceVersion"
        return self.cluster.kubectl("get", WRITTEN, "-n", self.namespace, "-o", columns, "--no-headers")

    def delete(self, *names: str) -> None:
        self.cluster.kubectl("delete", "dedupjob", *names, "-n", self.namespace, "--wait=false")

    def describe(self, name: str) -> str:
        """Status, objects, events and logs: what a person needs to understand a failure."""
        parts = [
            json.dumps(self.get(name).get("status"), indent=1),
            self.cluster.kubectl("get", "pods,pvc,statefulsets,configmaps", "-n", self.namespace, "-o", "wide", check=False),
            self.cluster.kubectl("get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp", check=False)[-3000:],
            self.cluster.kubectl("logs", f"{name}-driver-0", "-n", self.namespace, "--tail=60", check=False),
            self.cluster.kubectl("logs", f"deploy/{RELEASE}", "-n", SYSTEM, "--tail=60", check=False),
        ]
        return "\n".join(parts)


@dataclass
class Kafka:
    """The test bed's Kafka, from this machine."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = 2) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for created in admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)]).values():
            created.result(30)

    def delete_topics(self, names: list[str]) -> None:
        """Topics that do not exist are not an error."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for deleted in admin.delete_topics(names).values():
            deleted.exception(30)

    def produce(self, topic: str, values: Iterable[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20})
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(60) == 0

    def read(self, topic: str) -> list[bytes]:
        """The values of all committed records that the topic has now."""
        settings = {"group.id": "cluster-tests", "isolation.level": "read_committed", "enable.partition.eof": True}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, **settings})

        def end(partition: int) -> int:
            return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1])

        try:
            left = {partition for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions if end(partition) > 0}
            if not left:
                return []
            consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
            values = []
            while left:
                message = consumer.poll(30)
                assert message is not None, f"Kafka sent nothing for 30 s while the test read {topic}"
                if message.error():
                    left.discard(message.partition())
                else:
                    value = message.value()
                    assert value is not None, f"a record of {topic} has no value"
                    values.append(value)
            return values
        finally:
            consumer.close()
