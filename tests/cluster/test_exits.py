"""Every exit code and reason of the table, with the real operator and kubelet. The drivers are fake.

All jobs run at the same time, and the test reads all of them together: kubelet decides how long a restart takes, so no
order is expected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.harness import Cluster, Jobs, Json, wait_until
from dedup_api.exits import EXITS
from dedup_api.reasons import EXPLANATIONS, Reason

pytestmark = [pytest.mark.usefixtures("fake_operator"), pytest.mark.timeout(1800)]

LONG = 500
"""Seconds for sixteen jobs on a busy machine with two cores. An idle one needs an eighth of it."""


@dataclass(frozen=True)
class Ending:
    """One way in which a driver ends."""

    code: int
    stated: Reason | None
    """The reason in the termination message."""
    reason: Reason
    permanent: bool

    @property
    def job(self) -> str:
        return f"exit-{self.code}-{self.reason.lower()}"

    @property
    def topic(self) -> str:
        return ".".join(["exit", str(self.code), *([self.stated] if self.stated else [])])


ENDINGS = [
    Ending(0, None, Reason.DRIVER_FAILED, permanent=False),  # an exit that nobody asked for is a failure, even with code 0
    *(Ending(code, meaning.reason, meaning.reason, meaning.permanent) for code, meanings in EXITS.items() for meaning in meanings),
]


@dataclass(frozen=True)
class View:
    """All objects of the namespace, read in one request."""

    objects: dict[tuple[str, str], Json]

    @classmethod
    def take(cls, jobs: Jobs) -> View:
        text = jobs.cluster.kubectl("get", "dedupjobs,statefulsets,pods", "-n", jobs.namespace, "-o", "json")
        return cls({(item["kind"], item["metadata"]["name"]): item for item in json.loads(text)["items"]})

    def condition(self, name: str, kind: str) -> Json:
        """{} when there is none of the current generation."""
        job = self.objects["DedupJob", name]
        found = [item for item in job.get("status", {}).get("conditions", []) if item["type"] == kind]
        return found[0] if found and found[0]["observedGeneration"] == job["metadata"]["generation"] else {}

    def exits(self, name: str) -> list[Json]:
        return list(self.objects["DedupJob", name].get("status", {}).get("driver", {}).get("lastExits", []))

    def replicas(self, name: str) -> int | None:
        found = self.objects.get(("StatefulSet", f"{name}-driver"))
        return found["spec"]["replicas"] if found else None

    def restarts(self, name: str) -> int | None:
        """kubelet's restarts of the container; None while there is no pod."""
        pod = self.objects.get(("Pod", f"{name}-driver-0"))
        return sum(status["restartCount"] for status in pod.get("status", {}).get("containerStatuses", [])) if pod else None


def is_handled(view: View, ending: Ending) -> bool:
    """Whether the operator has given the job up, or kubelet has started the driver again. Both states last."""
    reported = any((exit["exitCode"], exit["reason"]) == (ending.code, ending.reason) for exit in view.exits(ending.job))
    stalled = view.condition(ending.job, "Stalled").get("status") == "True"
    if not ending.permanent:
        return reported and not stalled and view.replicas(ending.job) == 1 and (view.restarts(ending.job) or 0) >= 1
    ready = view.condition(ending.job, "Ready")
    explained = (ready.get("status"), ready.get("reason")) == ("False", ending.reason)
    return reported and stalled and explained and view.replicas(ending.job) == 0 and view.restarts(ending.job) is None


def is_running(view: View, ending: Ending) -> bool:
    return view.condition(ending.job, "Ready").get("reason") == "Running" and not view.condition(ending.job, "Stalled")


def list_unhandled(jobs: Jobs) -> list[str]:
    view = View.take(jobs)
    return [ending.job for ending in ENDINGS if not is_handled(view, ending)]


def repair(jobs: Jobs, ending: Ending) -> None:
    """Creates the file on the volume that makes the fake driver healthy, as a user would restore a checkpoint."""
    volume = jobs.get_object("pvc", f"{ending.job}-checkpoint")["spec"]["volumeName"]
    spec = json.loads(jobs.cluster.kubectl("get", "pv", volume, "-o", "json"))["spec"]
    Path((spec.get("local") or spec["hostPath"])["path"], "repaired").touch()


@pytest.mark.testbed("it repairs volumes in their folders on the node")
def test_the_operator_gives_up_permanent_exits_and_restarts_the_others(jobs: Jobs) -> None:
    for ending in ENDINGS:
        jobs.apply(ending.job, ending.topic)
    wait_until(lambda: not list_unhandled(jobs), "every exit is handled", LONG, lambda: explain(jobs, list_unhandled(jobs)))

    given_up = [ending for ending in ENDINGS if ending.permanent]
    view = View.take(jobs)
    for ending in given_up:
        message = view.condition(ending.job, "Ready")["message"]
        assert message.startswith("The topic's name asks for it.") and message.endswith(EXPLANATIONS[ending.reason].remedy)
    for ending in given_up:
        repair(jobs, ending)
        jobs.patch(ending.job, restartNonce=1)

    def list_stopped() -> list[str]:
        view = View.take(jobs)
        return [ending.job for ending in given_up if not is_running(view, ending)]

    wait_until(lambda: not list_stopped(), "restartNonce starts the given up jobs again", LONG, lambda: explain(jobs, list_stopped()))


def explain(jobs: Jobs, names: list[str]) -> str:
    return f"{names}\n{jobs.describe(names[0])}" if names else ""


def list_events(cluster: Cluster, jobs: Jobs, name: str) -> list[tuple[str, str]]:
    """(type, reason) of the events about a DedupJob."""
    events = json.loads(cluster.kubectl("get", "events.events.k8s.io", "-n", jobs.namespace, "-o", "json"))["items"]
    about = ("DedupJob", name)
    return [(event["type"], event["reason"]) for event in events if (event["regarding"]["kind"], event["regarding"]["name"]) == about]


def test_only_a_stop_that_exceeds_the_grace_period_is_reported(jobs: Jobs, cluster: Cluster) -> None:
    """The pod is deleted a moment after kubelet kills the driver, so only the operator's watch sees how it ended."""
    pods = {"stubborn": "--grace-period=3", "willing": "--grace-period=30", "forced": "--grace-period=0"}
    for name in pods:
        jobs.apply(name, "ok" if name == "willing" else "stubborn")
    for name in pods:
        jobs.wait_reason(name, "Running", "True")
    uids = {name: jobs.pod_uid(name) for name in pods}
    for name, grace in pods.items():
        flags = [grace, "--wait=false", *(["--force"] if name == "forced" else [])]
        cluster.kubectl("delete", "pod", f"{name}-driver-0", "-n", jobs.namespace, *flags)

    def read_exits(name: str) -> list[tuple[int, str]]:
        return [(exit["exitCode"], exit["reason"]) for exit in jobs.get(name)["status"]["driver"]["lastExits"]]

    wait_until(lambda: read_exits("stubborn"), "the status has the exit", 120, lambda: jobs.describe("stubborn"))
    wait_until(lambda: ("Warning", "GracePeriodExceeded") in list_events(cluster, jobs, "stubborn"), "the event", 60)

    wait_until(lambda: all(jobs.is_replaced(name, uids[name]) for name in pods), "new pods", 120)
    for name in pods:
        jobs.wait_reason(name, "Running", "True")
    assert read_exits("stubborn") == [(137, "GracePeriodExceeded")]
    assert read_exits("willing") == [] and read_exits("forced") == []


def test_a_driver_that_waits_for_the_lock_is_reported(jobs: Jobs) -> None:
    jobs.apply("second", "locked")
    ready = jobs.wait_reason("second", "CheckpointLocked", "False")
    assert ready["message"].startswith("Another process holds the lock.") and ready["message"].endswith(
        EXPLANATIONS[Reason.CHECKPOINT_LOCKED].remedy
    )
    assert jobs.find_condition("second", "Stalled") is None
