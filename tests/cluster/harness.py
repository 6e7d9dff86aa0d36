"""What the cluster tests share: kubectl and helm with patience, DedupJobs of one namespace, Kafka topics."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from dedup_operator.domain.observe.pod import has_ended
from testbed.api import Testbed

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "dedup-operator"
SYSTEM = "dedup-system"
RELEASE = "dedup-operator"
WRITTEN = "dedupjobs,statefulsets,jobs,cronjobs,services,configmaps,persistentvolumeclaims"
"""What the operator writes, but for events."""

Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class Cluster:
    """kubectl with patience. Waits poll; nothing sleeps for a fixed time."""

    testbed: Testbed

    def kubectl(self, *arguments: str, document: object = None, check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", *arguments],
            input=None if document is None else json.dumps(document),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=self.testbed.environment(),
        )
        assert done.returncode == 0 or not check, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def helm(self, *arguments: str) -> str:
        done = subprocess.run(
            ["helm", *arguments], capture_output=True, text=True, timeout=300, check=False, env=self.testbed.environment()
        )
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def find(self, kind: str, name: str, namespace: str) -> Json | None:
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def get(self, kind: str, name: str, namespace: str) -> Json:
        found = self.find(kind, name, namespace)
        assert found is not None, f"{kind} {name} does not exist in {namespace}"
        return found

    def count_rounds(self, *, check: bool = True) -> float:
        """How often the installed operator has looked at its jobs. `check`: its metrics must be there to be read."""
        path = f"/api/v1/namespaces/{SYSTEM}/services/{RELEASE}-metrics:http/proxy/metrics"
        return count_rounds(self.kubectl("get", "--raw", path, check=check))

    def create_namespace(self, name: str) -> None:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def find_values(self) -> Json | None:
        """What the operator was installed with; None where it is not."""
        if RELEASE not in self.helm("list", "-n", SYSTEM, "-q").split():
            return None
        found: Json | None = json.loads(self.helm("get", "values", RELEASE, "-n", SYSTEM, "-o", "json"))
        return found or {}

    def deploy(self, job_image: str, *, chart: Path = CHART, operator_image: str = "", **more: Any) -> None:
        """The chart with this job image; waits until the operator is ready."""
        values = {
            "image": _image(operator_image or self.testbed.image("operator")),
            "job": {"image": _image(job_image)},
            "resyncSeconds": 5,
            "logging": {"format": "text"},
        }
        self.install({**values, **more}, chart)

    def install(self, values: Json, chart: Path = CHART) -> None:
        self.create_namespace(SYSTEM)
        path = self.testbed.layout.state / "cluster-tests-values.json"
        path.write_text(json.dumps(values))
        flags = ("--take-ownership", "--force-conflicts", "--wait", "--timeout", "180s")
        self.helm("upgrade", "--install", RELEASE, str(chart), "-n", SYSTEM, "-f", str(path), *flags)


def count_rounds(metrics: str) -> float:
    """How often an operator has looked at its jobs."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith("dedup_operator_reconcile_total{"))


def _image(reference: str) -> Json:
    repository, tag = reference.rsplit(":", 1)
    return {"repository": repository, "tag": tag, "pullPolicy": "Never"}


def wait_until(look: Callable[[], T | None], what: str, seconds: float = 120, describe: Callable[[], object] = lambda: "") -> T:
    """Polls until `look` returns something true."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}\n{describe()}")
        time.sleep(0.5)


@dataclass
class Jobs:
    """The DedupJobs of one namespace."""

    cluster: Cluster
    namespace: str

    def apply(self, name: str, topic: str, **changes: Any) -> None:
        """A small job; `changes` replace whole fields of its spec, None removes one."""
        spec = {
            "source": {"bootstrapServers": self.cluster.testbed.kafka_in_cluster, "topic": topic},
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
        """One that has ended is still there for a moment, until kubelet removes it."""
        pod = self.pod(name)
        return pod is not None and not has_ended(pod)

    def is_replaced(self, name: str, uid: str) -> bool:
        """There is another pod than that with `uid`."""
        pod = self.pod(name)
        return pod is not None and pod["metadata"]["uid"] != uid

    def pod_uid(self, name: str) -> str:
        return str(self.cluster.get("pod", f"{name}-driver-0", self.namespace)["metadata"]["uid"])

    def condition(self, name: str, kind: str = "Ready") -> Json:
        found = self.find_condition(name, kind)
        assert found is not None, f"{name} has no present condition {kind}"
        return found

    def find_condition(self, name: str, kind: str = "Ready") -> Json | None:
        """Only if it was computed from the present generation."""
        job = self.get(name)
        found = [item for item in job.get("status", {}).get("conditions", []) if item["type"] == kind]
        current = found and found[0]["observedGeneration"] == job["metadata"]["generation"]
        return found[0] if current else None

    def wait_reason(self, name: str, reason: str, status: str, seconds: float = 180) -> Json:
        """Until Ready has this reason; its message is worth a look too."""

        def look() -> Json | None:
            ready = self.find_condition(name)
            return ready if ready and (ready["reason"], ready["status"]) == (reason, status) else None

        return wait_until(look, f"{name} is {reason}", seconds, lambda: self.describe(name))

    def wait_gone(self, kind: str, name: str, seconds: float = 120) -> None:
        wait_until(lambda: self.find(kind, name) is None, f"{kind} {name} is gone", seconds)

    def read_versions(self) -> str:
        """Of the jobs and all that belongs to them: any write changes one. Not of pods, which kubelet writes."""
        columns = "custom-columns=:kind,:metadata.name,:metadata.resourceVersion"
        return self.cluster.kubectl("get", WRITTEN, "-n", self.namespace, "-o", columns, "--no-headers")

    def delete(self, *names: str) -> None:
        self.cluster.kubectl("delete", "dedupjob", *names, "-n", self.namespace, "--wait=false")

    def describe(self, name: str) -> str:
        """All that explains a failure."""
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
    """The test bed's broker, as the host sees it."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = 2) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for created in admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)]).values():
            created.result(30)

    def delete_topics(self, names: list[str]) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for deleted in admin.delete_topics(names).values():
            deleted.exception(30)

    def produce(self, topic: str, values: Iterable[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20})
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(60) == 0

    def read(self, topic: str) -> list[bytes]:
        """All that the topic holds now, committed records only."""
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
                assert message is not None, f"no answer while reading {topic}"
                if message.error():
                    left.discard(message.partition())
                else:
                    value = message.value()
                    assert value is not None, f"a record of {topic} has no value"
                    values.append(value)
            return values
        finally:
            consumer.close()
