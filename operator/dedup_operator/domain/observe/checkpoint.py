"""The checkpoint's claim, and what is known of the keys on it.

What the keys belong to is written where it outlives the DedupJob: on the claim that the operator made for the job, or, on a claim of the
user's, in a record of its own, a ConfigMap whose name is made from claim and folder. Two jobs cannot have one record, so no folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dedup_api import names
from dedup_api.driver_status import DriverStatus
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_operator.domain import annotations as marks
from dedup_operator.domain.driver_settings import parse_config
from dedup_operator.domain.manifests.config_map import CONFIG_KEY
from dedup_operator.domain.observe.ownership import is_deleting
from dedup_operator.domain.observe.pod import Silence
from dedup_operator.domain.observe.workload import find_config_map

Json = dict[str, Any]


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
    name: str = ""
    shared: bool = False
    """A claim of the user's: the operator never writes to it."""
    record: Json | None = None
    """Of a shared claim: the ConfigMap that says what the folder belongs to; None before there is one."""

    exchanged: bool = False
    """Of a shared claim: it is another one than that with the keys, of the same name."""

    @property
    def may_hold_keys(self) -> bool:
        """An edit must fit what it was begun with."""
        return self.begun or self.doubtful


def observe_checkpoint(
    claim: Json,
    record: Json | None,
    uid: str,
    applied: JobConfig | None,
    answer: DriverStatus | Silence | None,
    counted: bool,
    *,
    shared: bool = False,
) -> CheckpointClaim:
    """`applied`: what the driver has been given; `counted`: a batch of this job stands in its status."""
    metadata = claim["metadata"]
    marked_object = (record or {"metadata": {}}) if shared else claim
    annotations = marked_object["metadata"].get("annotations", {})
    mark = annotations.get(marks.CHECKPOINT_CONFIG)
    told = isinstance(answer, DriverStatus) and (answer.checkpoint_begun or answer.progress.batch is not None)
    marked_begun = marks.CHECKPOINT_BEGUN in annotations
    begun = told or counted or marked_begun
    doubtful = (isinstance(answer, Silence) or _is_locked(answer)) and not begun
    config = parse_config(mark) if mark is not None else applied
    if (told or doubtful) and not marked_begun and applied is not None:
        # An edit may have been noted on the claim a moment ago; the keys belong to what the driver runs on.
        config = applied
    return CheckpointClaim(
        phase=claim.get("status", {}).get("phase", "Pending"),
        deleting=is_deleting(claim),
        config=config,
        marked=mark is not None and parse_config(mark) == config,
        begun=begun,
        doubtful=doubtful,
        owned=any(owner["uid"] == uid for owner in metadata.get("ownerReferences", [])),
        size=str(claim["spec"]["resources"]["requests"]["storage"]),
        raw=claim,
        name=metadata["name"],
        shared=shared,
        record=record,
        exchanged=shared and annotations.get(marks.CLAIM_UID, metadata["uid"]) != metadata["uid"],
    )


def _is_locked(answer: DriverStatus | Silence | None) -> bool:
    return isinstance(answer, DriverStatus) and answer.blocked_by is not None and answer.blocked_by.reason is Reason.CHECKPOINT_LOCKED


def find_applied_config(users: Iterable[Json], config_maps: Iterable[Json]) -> JobConfig | None:
    """The job.json that the driver has, where it can still be read. `users`: the driver's pod before what makes the next one, because a
    run of a schedule may have other settings than the next one will."""
    name = next((named for user in users if (named := find_config_map(user))), "")
    found = (config_map for config_map in config_maps if config_map["metadata"]["name"] == name)
    return next((parse_config(config_map.get("data", {}).get(CONFIG_KEY)) for config_map in found), None)


def find_holder(claim: Json | None, record: Json | None, name: str) -> str | None:
    """Who else has the checkpoint that this job wants; None where nobody has."""
    if record is not None:
        holder = record["metadata"].get("labels", {}).get(names.LABEL_JOB)
        if holder != name:
            return f"DedupJob {holder}" if holder else f"ConfigMap {record['metadata']['name']}, which is not the operator's"
    made_for = claim["metadata"].get("labels", {}).get(names.LABEL_JOB) if claim else None
    return f"DedupJob {made_for}, for which the operator made the claim" if made_for else None
