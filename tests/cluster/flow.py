"""A job at work between two topics: what the tests of faults share, from the topics to the verdict on the output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.harness import Cluster, Jobs, Kafka, wait_until
from cluster.stream import Feed, Output, compare
from dedup_api import names

DRIVER = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1536Mi"}}}
RECOVERY = 240
"""Seconds from a fault to the next event on a busy machine of two cores; 15 to 30 on an idle one."""


@dataclass(frozen=True)
class Stream:
    jobs: Jobs
    job: str
    feed: Feed
    output: Output
    sink: str

    def wait_until_it_flows(self) -> None:
        """An event that has not gone in yet comes out."""
        mark = self.feed.events + 1
        wait_until(lambda: self.output.read_on().newest >= mark, f"event {mark} comes out", RECOVERY, lambda: self.jobs.describe(self.job))

    @property
    def pod_uid(self) -> str:
        return self.jobs.pod_uid(self.job)

    @property
    def attempt(self) -> int:
        return int(self.jobs.get(self.job)["status"]["checkpoint"]["attempt"])

    def read_attempt(self) -> int:
        """From the volume, where a driver that starts writes it first."""
        volume = self.jobs.get_object("pvc", names.claim_name(self.job))["spec"]["volumeName"]
        spec = json.loads(self.jobs.cluster.kubectl("get", "pv", volume, "-o", "json"))["spec"]
        return int(Path((spec.get("local") or spec["hostPath"])["path"], "attempt").read_text())

    @property
    def exits(self) -> list[tuple[int, str]]:
        """Newest first."""
        driver = self.jobs.get(self.job)["status"]["driver"]
        return [(exit["exitCode"], exit["reason"]) for exit in driver["lastExits"]]

    def wait_for_attempt_after(self, attempt: int) -> None:
        """The operator has heard of another start of the driver."""
        wait_until(lambda: self.attempt > attempt, f"an attempt after {attempt}", 60, lambda: self.jobs.describe(self.job))

    def check_output(self, kafka: Kafka) -> None:
        """The end: every event of the feed stands in the output once, and no driver is left that could change that."""
        events = self.feed.stop()

        def has_ended() -> bool:
            return not compare(self.output.read_on().values, events).missing

        def explain() -> str:
            return f"{compare(self.output.values, events)}\n{self.jobs.describe(self.job)}"

        wait_until(has_ended, "every event comes out", RECOVERY, explain)
        self.jobs.patch(self.job, suspend=True)
        self.jobs.wait_reason(self.job, "Suspended", "True")
        verdict = compare(kafka.read(self.sink), events)
        assert verdict.is_clean, str(verdict)
        progress = self.jobs.get(self.job)["status"]["progress"]
        assert (progress["late"], progress["invalid"]) == (0, 0)


@contextmanager
def open_stream(cluster: Cluster, kafka: Kafka, job: str, **spec: Any) -> Iterator[Stream]:
    """A job of its own namespace, at work. With so short a trigger many faults come in the middle of a batch; a driver without any pause
    would take half of the machine from the tests beside."""
    namespace = f"dedup-{uuid4().hex[:8]}"
    cluster.create_namespace(namespace)
    source, sink = f"{namespace}-in", f"{namespace}-out"
    kafka.create_topic(source, 4)
    kafka.create_topic(sink, 4)
    jobs = Jobs(cluster, namespace)
    settings = {"sink": {"kafka": {"topic": sink}}, "watermark": "2h", "trigger": {"processingTime": "1s"}, "driver": DRIVER}
    try:
        jobs.apply(job, source, **{**settings, **spec})
        with Feed(kafka.bootstrap, source) as feed, Output(kafka.bootstrap, sink) as output:
            stream = Stream(jobs, job, feed, output, sink)
            stream.wait_until_it_flows()
            stream.wait_for_attempt_after(0)
            yield stream
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        kafka.delete_topics([source, sink, f"dedup.{namespace}.{job}-progress"])
