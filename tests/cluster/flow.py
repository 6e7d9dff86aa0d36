"""A job that deduplicates a stream of events while a test causes faults, from its topics to the check of its output."""

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
"""Seconds from a fault to the next event in the output on a busy machine; an idle one needs 15 to 30."""


@dataclass(frozen=True)
class Stream:
    jobs: Jobs
    job: str
    feed: Feed
    output: Output
    sink: str

    def wait_until_it_flows(self) -> None:
        """Returns when an event that the feed sends from now on is in the output."""
        mark = self.feed.events + 1
        what = f"event {mark} is in the output"
        wait_until(lambda: self.output.read_on().newest >= mark, what, RECOVERY, lambda: self.jobs.describe(self.job))

    @property
    def pod_uid(self) -> str:
        return self.jobs.pod_uid(self.job)

    @property
    def attempt(self) -> int:
        return int(self.jobs.get(self.job)["status"]["checkpoint"]["attempt"])

    def read_attempt(self) -> int:
        """The attempt on the volume. A driver that starts writes it before anything else."""
        volume = self.jobs.get_object("pvc", names.claim_name(self.job))["spec"]["volumeName"]
        spec = json.loads(self.jobs.cluster.kubectl("get", "pv", volume, "-o", "json"))["spec"]
        return int(Path((spec.get("local") or spec["hostPath"])["path"], "attempt").read_text())

    @property
    def exits(self) -> list[tuple[int, str]]:
        """(exit code, reason) of the driver's last exits, the newest first."""
        driver = self.jobs.get(self.job)["status"]["driver"]
        return [(exit["exitCode"], exit["reason"]) for exit in driver["lastExits"]]

    def wait_for_attempt_after(self, attempt: int) -> None:
        """Returns when the operator has reported a later start of the driver."""
        wait_until(lambda: self.attempt > attempt, f"an attempt after {attempt}", 60, lambda: self.jobs.describe(self.job))

    def check_output(self, kafka: Kafka) -> None:
        """Stops the feed and the job, then checks that the output has every event exactly once."""
        events = self.feed.stop()

        def is_complete() -> bool:
            return not compare(self.output.read_on().values, events).missing

        def explain() -> str:
            return f"{compare(self.output.values, events)}\n{self.jobs.describe(self.job)}"

        wait_until(is_complete, "every event is in the output", RECOVERY, explain)
        self.jobs.patch(self.job, suspend=True)
        self.jobs.wait_reason(self.job, "Suspended", "True")
        verdict = compare(kafka.read(self.sink), events)
        assert verdict.is_clean, str(verdict)
        progress = self.jobs.get(self.job)["status"]["progress"]
        assert (progress["late"], progress["invalid"]) == (0, 0)


@contextmanager
def open_stream(cluster: Cluster, kafka: Kafka, job: str, **spec: Any) -> Iterator[Stream]:
    """A running job in a namespace of its own.

    Its trigger is one second, so that many faults happen during a micro-batch. A driver without any pause would take
    half of the machine from the tests that run beside it.
    """
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
