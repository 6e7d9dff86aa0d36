"""The observed pod of the driver: its state, and how the driver's runs in it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from dedup_api import names
from dedup_api.driver_status import DriverStatus, TerminationMessage
from dedup_api.exits import STOPPED_EARLY, ExitCode, find_meaning
from dedup_api.reasons import EXPLANATIONS, Reason
from dedup_api.status import DriverExit
from dedup_operator.domain.times import parse_time, render_time
from dedup_operator.domain.types import MAX_MESSAGE_LENGTH, Json

IMAGE_PROBLEMS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable"}
CONTAINER_PROBLEMS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}
OUT_OF_MEMORY = "OOMKilled"
ENDED_WITH_ERROR = "Error"
"""kubelet's reason when it saw the exit code itself. For a container
that it lost track of, kubelet invents the exit code 137."""
KILLED = 137
CLOCK_TOLERANCE = timedelta(seconds=5)
"""The largest difference between the clocks of a node and of the API server."""
_NEVER = "1970-01-01T00:00:00Z"
"""kubelet sets no times for a container that it lost track of."""
ENDED_PHASES = {"Succeeded", "Failed"}


@dataclass(frozen=True)
class DriverUnreachable:
    """The driver does not answer on its HTTP port, or with something that is no status."""

    since: datetime
    message: str
    answered: bool = False
    """Something answers, but not with a status: the driver itself, or a proxy in front of it."""


@dataclass(frozen=True)
class DriverPod:
    name: str
    uid: str
    address: str | None
    deleting: bool
    created_at: datetime
    scheduled: bool
    unschedulable: str | None
    """The scheduler's message when it finds no node."""
    waiting: str | None
    """kubelet's reason why the container waits."""
    waiting_message: str
    started_at: datetime | None
    """When the running container started. None when no container runs."""
    ready: bool
    restarts: int
    exits: tuple[DriverExit, ...]
    """Newest first. Kubernetes shows at most the last two."""
    last_exit: DriverExit | None = None
    """How the driver ended, while no driver runs. None while a driver runs, whatever happened before, and when it ended
    because it had completed its run or was asked to stop."""
    report: DriverStatus | None = None
    """The last status of a driver that completed its run."""
    has_run: bool = False
    """The driver's container has started at least once."""
    ended_without_keys: int | None = None
    """The attempt of a driver that said at its end that no keys are stored. None when it said nothing, or that some may
    be."""

    @property
    def image_problem(self) -> bool:
        return self.waiting in IMAGE_PROBLEMS


def observe_pod(raw: Json) -> DriverPod:
    metadata, status = raw["metadata"], raw.get("status", {})
    container = _find_container(status)
    state = container.get("state", {})
    deleting = "deletionTimestamp" in metadata
    waiting, running = state.get("waiting", {}), state.get("running")
    scheduling: Json = next((condition for condition in status.get("conditions", []) if condition["type"] == "PodScheduled"), {})
    unschedulable = scheduling.get("status") == "False" and scheduling.get("reason") in {"Unschedulable", "SchedulerError"}
    exits = _observe_exits(container, metadata)
    return DriverPod(
        name=metadata["name"],
        uid=metadata["uid"],
        address=status.get("podIP"),
        deleting=deleting,
        created_at=parse_time(metadata["creationTimestamp"]),
        scheduled=scheduling.get("status") == "True",
        unschedulable=remove_node_counts(scheduling.get("message", "")) if unschedulable else None,
        waiting=waiting.get("reason"),
        waiting_message=_normalize_waiting_message(waiting.get("message", "")),
        started_at=parse_time(running["startedAt"]) if running else None,
        ready=container.get("ready", False),
        restarts=container.get("restartCount", 0),
        exits=exits,
        last_exit=_find_last_exit(state, exits),
        report=_find_report(state.get("terminated", {})),
        has_run=bool(state.keys() & {"running", "terminated"}) or container.get("restartCount", 0) > 0 or bool(exits),
        ended_without_keys=_find_attempt_without_keys(container),
    )


def has_ended(raw: Json) -> bool:
    """Whether no container of the pod runs or will run again. A pod of a StatefulSet ends only when its node ends it,
    and is then replaced."""
    return raw.get("status", {}).get("phase") in ENDED_PHASES


def _find_report(end: Json) -> DriverStatus | None:
    said = _parse_message(end.get("message") or "") if end.get("exitCode") == 0 else None
    return said.status if said else None


def _find_attempt_without_keys(container: Json) -> int | None:
    state = container.get("state", {})
    end = state.get("terminated") or (container.get("lastState", {}).get("terminated") if "running" not in state else None) or {}
    said = _parse_message(end.get("message") or "")
    return said.attempt if said is not None and said.checkpoint_has_state is False else None


def _find_container(status: Json) -> Json:
    containers = status.get("containerStatuses", [])
    return next((container for container in containers if container["name"] == names.CONTAINER), {})


def remove_node_counts(message: str) -> str:
    """The scheduler's message without the numbers of nodes, and without the part about preemption.

    `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}. preemption: 0/3 nodes are …`
    changes whenever a node comes or goes, and each change would be a write of the status.
    """
    summary, colon, causes = message.split(" preemption:")[0].strip().rstrip(".").partition(": ")
    summary = re.sub(r"^\d+/\d+ nodes are available", "No node is available", summary)
    found = (re.sub(r"^\d+ ", "", re.sub(r"^\d+ node\(s\)", "nodes", cause)) for cause in causes.split(", "))
    # The scheduler sorts the causes by their text, which begins with the number.
    return f"{summary}{colon}{', '.join(sorted(set(found)))}."


def _normalize_waiting_message(message: str) -> str:
    """kubelet alternates between the error alone and the error after `Back-off …: ErrImagePull:`.

    The status must not alternate.
    """
    return message.split("ErrImagePull: ")[-1]


def _observe_exits(container: Json, metadata: Json) -> tuple[DriverExit, ...]:
    last, before = (container.get(state, {}).get("terminated") for state in ("state", "lastState"))
    exits = [_observe_exit(before)] if before else []
    if last and _find_report(last) is None and not _stopped_on_request(last, metadata):
        exits.insert(0, _observe_overrun(last) if _is_overrun(last, metadata) else _observe_exit(last))
    return tuple(exits)


def _find_last_exit(state: Json, exits: tuple[DriverExit, ...]) -> DriverExit | None:
    """`state`: the present state of the container. It waits before each start, also after an exit."""
    ended = state.get("terminated")
    if state.get("running") is not None or not exits:
        return None
    own = ended is None or exits[0].finished_at == render_time(parse_time(ended.get("finishedAt") or _NEVER))
    return exits[0] if own else None


def _stopped_on_request(end: Json, metadata: Json) -> bool:
    """Whether the driver ended because it was asked to stop. Such an exit is no failure."""
    return "deletionTimestamp" in metadata and end.get("exitCode") in {ExitCode.DONE, STOPPED_EARLY}


def _is_overrun(end: Json, metadata: Json) -> bool:
    """Whether kubelet killed the driver because the pod's grace period was over.

    deletionTimestamp is the end of the grace period, until kubelet sets the period to 0 in order to remove the pod. A
    pod that was deleted by force is removed before its container has ended, and shows no exit.
    """
    deadline, finished = metadata.get("deletionTimestamp"), end.get("finishedAt")
    if deadline is None or finished is None or (end.get("exitCode"), end.get("reason")) != (KILLED, ENDED_WITH_ERROR):
        return False
    return metadata.get("deletionGracePeriodSeconds") == 0 or parse_time(finished) >= parse_time(deadline) - CLOCK_TOLERANCE


def _observe_overrun(end: Json) -> DriverExit:
    explanation = EXPLANATIONS[Reason.GRACE_PERIOD_EXCEEDED]
    return DriverExit(
        exit_code=KILLED,
        reason=Reason.GRACE_PERIOD_EXCEEDED,
        message=f"{explanation.meaning} {explanation.remedy}",
        finished_at=render_time(parse_time(end["finishedAt"])),
    )


def _observe_exit(end: Json) -> DriverExit:
    code, killed = end.get("exitCode", 0), end.get("reason") == OUT_OF_MEMORY
    text = "" if killed else (end.get("message") or "").strip()
    said = _parse_message(text)
    return DriverExit(
        exit_code=code,
        reason=said.reason if said else _find_reason(code, end.get("reason", "")).value,
        message=(said.message if said else text or _describe(code, end))[-MAX_MESSAGE_LENGTH:],
        finished_at=render_time(parse_time(end.get("finishedAt") or _NEVER)),
    )


def _parse_message(text: str) -> TerminationMessage | None:
    try:
        return TerminationMessage.model_validate_json(text)
    except ValidationError:
        return None


def _find_reason(code: int, kubelet: str) -> Reason:
    if kubelet == OUT_OF_MEMORY:
        return Reason.OUT_OF_MEMORY
    meaning = find_meaning(code)
    return meaning.reason if meaning else Reason.DRIVER_FAILED


def _describe(code: int, end: Json) -> str:
    if end.get("reason") == OUT_OF_MEMORY:
        return EXPLANATIONS[Reason.OUT_OF_MEMORY].meaning
    if end.get("signal") or code > 128:
        return f"The driver was killed by signal {end.get('signal') or code - 128}."
    return f"The driver ended with exit code {code} and no message."


def is_permanent(exit: DriverExit) -> bool:
    """Whether a restart cannot help."""
    meaning = find_meaning(exit.exit_code, exit.reason)
    return meaning is not None and meaning.permanent


def merge_deleted_pod(known: Json | None, raw: Json) -> Json:
    """What the operator remembers of a pod that is being deleted. `known`: the previous result of this function.

    It keeps the end of the grace period that the watch showed first, because kubelet overwrites it with its last write.
    """
    metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    if known is not None and known["metadata"]["uid"] == metadata["uid"]:
        metadata |= {key: value for key, value in known["metadata"].items() if key in _DEADLINE}
    return {"kind": "Pod", "metadata": metadata, "status": raw.get("status", {})}


_DEADLINE = {"deletionTimestamp", "deletionGracePeriodSeconds"}
