"""From raw objects to facts: what stands in the cluster for one job, and whether it is ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DriverExit
from dedup_operator.domain import marks
from dedup_operator.domain.build.config_map import CONFIG_KEY
from dedup_operator.domain.inputs import parse_config, parse_spec
from dedup_operator.domain.observe_pod import DriverPod, observe_pod
from dedup_operator.domain.times import parse_time

Json = dict[str, Any]


@dataclass(frozen=True)
class Silence:
    """The driver did not answer on its HTTP port."""

    since: datetime
    message: str


@dataclass(frozen=True)
class Snapshot:
    """Raw objects, each from a live read: None means that the API server said it does not exist."""

    job: Json
    stateful_set: Json | None = None
    pod: Json | None = None
    claim: Json | None = None
    service: Json | None = None
    config_maps: tuple[Json, ...] = ()
    events: tuple[Json, ...] = ()
    """Warnings about the children; read only while something is amiss."""
    answer: DriverStatus | Silence | None = None
    departed: Json | None = None
    """The pod that went last, as the watch showed it: for a live read there is hardly time between its end and its removal."""


class Ownership(Enum):
    OURS = "ours"
    LEAVING = "leaving"
    """Of an earlier DedupJob of this name, or of ours, and on its way out: wait."""
    FOREIGN = "foreign"


@dataclass(frozen=True)
class DriverSet:
    uid: str
    replicas: int
    applied: DedupJobSpec | None
    """What its template was made from; None where the annotation is gone."""
    given_up: marks.GivenUp | None
    rolling: bool
    """Scaled to 0 on the way to other settings, not to rest."""
    image: str
    config_map: str
    raw: Json


@dataclass(frozen=True)
class CheckpointClaim:
    phase: str
    deleting: bool
    config: JobConfig | None
    """What its state belongs to; None where nobody can tell any more."""
    marked: bool
    """It says so itself."""
    begun: bool
    """Keys may be stored in it. A driver whose beginning went unseen looks itself, and refuses settings that do not fit."""
    doubtful: bool
    """Nobody can tell now: a driver does not answer, or waits for the one that holds the checkpoint. It is left alone until it says
    that it has not begun."""
    owned: bool
    size: str
    raw: Json

    @property
    def may_hold_keys(self) -> bool:
        """An edit must fit what it was begun with."""
        return self.begun or self.doubtful


@dataclass(frozen=True)
class World:
    """What there is. Objects that are not this job's appear only under `foreign` and `leaving`."""

    set: DriverSet | None = None
    pod: DriverPod | None = None
    claim: CheckpointClaim | None = None
    has_service: bool = False
    config_map_uids: tuple[tuple[str, str], ...] = ()
    """(name, UID), sorted."""
    foreign: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    answer: DriverStatus | Silence | None = None
    rejection: str | None = None
    """Why the API server refuses the driver's pod."""
    claim_trouble: str | None = None
    """Why no volume is made for the claim."""
    mount_trouble: str | None = None
    """Why the node cannot mount the pod's volumes."""
    claim_known: bool = False
    """The status says that this job has had a claim."""
    last_words: tuple[DriverExit, ...] = ()
    """How the driver ended in the pod that went last."""

    @property
    def pinned(self) -> JobConfig | None:
        """The configuration that the stored keys were made with; None while there are none."""
        return self.claim.config if self.claim and self.claim.may_hold_keys else None

    @property
    def config_maps(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.config_map_uids)


def observe_world(snapshot: Snapshot) -> World:
    uid, name = snapshot.job["metadata"]["uid"], snapshot.job["metadata"]["name"]
    sorted_out: dict[Ownership, list[str]] = {ownership: [] for ownership in Ownership}

    def ours(raw: Json | None, ownership: Ownership) -> Json | None:
        if raw is None:
            return None
        sorted_out[ownership].append(f"{raw['kind']} {raw['metadata']['name']}")
        return raw if ownership is Ownership.OURS else None

    def owned(raw: Json | None) -> Json | None:
        return ours(raw, _observe_ownership(raw, uid, name)) if raw else None

    stateful_set, service = owned(snapshot.stateful_set), owned(snapshot.service)
    config_maps = [item for item in snapshot.config_maps if _observe_ownership(item, uid, name) is Ownership.OURS]
    pod = snapshot.pod and ours(snapshot.pod, _observe_pod_ownership(snapshot.pod, stateful_set, name))
    claim = snapshot.claim and ours(snapshot.claim, _observe_claim_ownership(snapshot.claim, stateful_set, uid, name))
    answer = snapshot.answer if pod else None  # a pod that is not ours speaks of another job's settings
    status = snapshot.job.get("status") or {}
    known = (status.get("checkpoint") or {}).get("claim")
    counted = (status.get("progress") or {}).get("batch") is not None
    return World(
        set=_observe_set(stateful_set) if stateful_set else None,
        pod=observe_pod(pod) if pod else None,
        claim=_observe_claim(claim, uid, _find_applied_config(stateful_set, config_maps), answer, counted) if claim else None,
        has_service=service is not None,
        config_map_uids=tuple(sorted((item["metadata"]["name"], item["metadata"]["uid"]) for item in config_maps)),
        foreign=tuple(sorted_out[Ownership.FOREIGN]),
        leaving=tuple(sorted_out[Ownership.LEAVING]),
        answer=answer,
        rejection=_find_event(snapshot.events, "StatefulSet", {"FailedCreate"}),
        claim_trouble=_find_event(snapshot.events, "PersistentVolumeClaim", {"ProvisioningFailed", "FailedBinding", "FailedMount"}),
        mount_trouble=_find_event(snapshot.events, "Pod", {"FailedMount", "FailedAttachVolume"}),
        claim_known=bool(known),
        last_words=_observe_last_words(snapshot.departed, stateful_set, name),
    )


def _observe_last_words(departed: Json | None, stateful_set: Json | None, name: str) -> tuple[DriverExit, ...]:
    if departed is None or _observe_pod_ownership(departed, stateful_set, name) is not Ownership.OURS:
        return ()
    return observe_pod(departed).exits


def _controller(raw: Json) -> Json | None:
    owners = raw["metadata"].get("ownerReferences", [])
    return next((owner for owner in owners if owner.get("controller")), None)


def _is_deleting(raw: Json) -> bool:
    return "deletionTimestamp" in raw["metadata"]


def _observe_ownership(raw: Json, uid: str, name: str) -> Ownership:
    owner = _controller(raw)
    if owner is None:
        return Ownership.FOREIGN
    if owner["uid"] == uid:
        return Ownership.LEAVING if _is_deleting(raw) else Ownership.OURS
    return Ownership.LEAVING if (owner["kind"], owner["name"]) == (names.KIND, name) else Ownership.FOREIGN


def _observe_pod_ownership(pod: Json, stateful_set: Json | None, name: str) -> Ownership:
    owner = _controller(pod)
    if owner is not None and stateful_set is not None and owner["uid"] == stateful_set["metadata"]["uid"]:
        return Ownership.OURS
    of_driver = owner is not None and (owner["kind"], owner["name"]) == ("StatefulSet", names.driver_name(name))
    return Ownership.LEAVING if of_driver or _is_deleting(pod) else Ownership.FOREIGN


def _observe_claim_ownership(claim: Json, stateful_set: Json | None, uid: str, name: str) -> Ownership:
    """A retained claim has no owner: labels and what it was made with are its mark."""
    metadata = claim["metadata"]
    owners = metadata.get("ownerReferences", [])
    if owners and not any(owner["uid"] == uid for owner in owners):
        of_earlier = any((owner["kind"], owner["name"]) == (names.KIND, name) for owner in owners)
        return Ownership.LEAVING if of_earlier else Ownership.FOREIGN
    labels = metadata.get("labels", {})
    labelled = labels.get(names.LABEL_MANAGED_BY) == names.MANAGER and labels.get(names.LABEL_JOB) == name
    if not labelled or (stateful_set is None and marks.CHECKPOINT_CONFIG not in metadata.get("annotations", {})):
        return Ownership.FOREIGN
    return Ownership.LEAVING if _is_deleting(claim) and stateful_set is None else Ownership.OURS


def _observe_set(raw: Json) -> DriverSet:
    annotations = raw["metadata"].get("annotations", {})
    pod = raw["spec"]["template"]["spec"]
    config_maps = [volume["configMap"]["name"] for volume in pod.get("volumes", []) if "configMap" in volume]
    return DriverSet(
        uid=raw["metadata"]["uid"],
        replicas=raw["spec"].get("replicas", 1),
        applied=parse_spec(annotations.get(marks.APPLIED_SPEC)),
        given_up=marks.parse_given_up(annotations.get(marks.GIVEN_UP)),
        rolling=marks.ROLLING in annotations,
        image=pod["containers"][0]["image"],
        config_map=config_maps[0] if config_maps else "",
        raw=raw,
    )


def _observe_claim(raw: Json, uid: str, applied: JobConfig | None, answer: DriverStatus | Silence | None, counted: bool) -> CheckpointClaim:
    """`counted`: a batch of this job stands in its status."""
    metadata = raw["metadata"]
    annotations = metadata.get("annotations", {})
    mark = annotations.get(marks.CHECKPOINT_CONFIG)
    told = isinstance(answer, DriverStatus) and (answer.checkpoint_begun or answer.progress.batch is not None)
    marked_begun = marks.CHECKPOINT_BEGUN in annotations
    begun = told or counted or marked_begun
    locked = isinstance(answer, DriverStatus) and answer.blocked_by is not None and answer.blocked_by.reason is Reason.CHECKPOINT_LOCKED
    doubtful = (isinstance(answer, Silence) or locked) and not begun
    config = parse_config(mark) if mark is not None else applied
    if (told or doubtful) and not marked_begun and applied is not None:
        # An edit may have been noted on the claim a moment ago; the keys belong to what the driver runs on.
        config = applied
    return CheckpointClaim(
        phase=raw.get("status", {}).get("phase", "Pending"),
        deleting=_is_deleting(raw),
        config=config,
        marked=mark is not None and parse_config(mark) == config,
        begun=begun,
        doubtful=doubtful,
        owned=any(owner["uid"] == uid for owner in metadata.get("ownerReferences", [])),
        size=str(raw["spec"]["resources"]["requests"]["storage"]),
        raw=raw,
    )


def _find_applied_config(stateful_set: Json | None, config_maps: Iterable[Json]) -> JobConfig | None:
    """The job.json that the driver has, where it can still be read."""
    name = _observe_set(stateful_set).config_map if stateful_set else ""
    found = (config_map for config_map in config_maps if config_map["metadata"]["name"] == name)
    return next((parse_config(config_map.get("data", {}).get(CONFIG_KEY)) for config_map in found), None)


def _find_event(events: Iterable[Json], kind: str, reasons: set[str]) -> str | None:
    matching = [event for event in events if event["involvedObject"]["kind"] == kind and event["reason"] in reasons]
    if not matching:
        return None
    newest = max(matching, key=_event_time)
    return str(newest.get("message", "")).strip() or None


def _event_time(event: Json) -> datetime:
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(text or event["metadata"]["creationTimestamp"])
