"""The observed claim: the volume claim that holds the checkpoint, and what the operator knows about the keys on it.

The settings to which the keys belong are recorded where they outlive the DedupJob. For a claim that the operator
created, they stand in annotations of the claim. For a claim of the user, they stand in a record: a ConfigMap whose name
is computed from claim and folder. Two DedupJobs cannot both have this record, so they cannot both use the folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dedup_api import names
from dedup_api.changes import list_state_changes, state_identity
from dedup_api.driver_status import DriverStatus
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY, CLAIM_UID
from dedup_operator.domain.driver_objects import CONFIG_KEY, find_config_map
from dedup_operator.domain.driver_settings import parse_config
from dedup_operator.domain.observe.ownership import is_deleting
from dedup_operator.domain.observe.pod import DriverUnreachable
from dedup_operator.domain.types import Json


@dataclass(frozen=True)
class CheckpointClaim:
    phase: str
    deleting: bool
    config: JobConfig | None
    """The configuration to which the checkpoint belongs. None when it is no longer known."""
    annotated: bool
    """The annotations of the claim (or of its record) contain `config` and its hash."""
    has_state: bool
    """Keys may be stored in the checkpoint. Sometimes the operator does not see a driver store the first keys. Then the
    next driver checks the checkpoint itself, and refuses settings that do not fit."""
    state_unknown: bool
    """Nothing can tell now whether keys are stored: the driver does not answer, or it waits for another process that
    has locked the checkpoint. The operator changes no annotation until a driver says that the checkpoint has no
    state."""
    owned: bool
    size: str
    raw: Json
    name: str = ""
    folder: str = ""
    """On a claim of the user."""
    shared: bool = False
    """The user created the claim. The operator never writes to it."""
    record: Json | None = None
    """For a shared claim: the ConfigMap that records what the folder belongs to. None before it exists."""
    state_recorded: bool = False
    """The annotations of the claim (or of its record) say that keys are stored, and `config` beside it is theirs."""
    recreated: bool = False
    """For a shared claim: the claim with the keys was deleted, and this is a new claim of the same name."""

    @property
    def may_hold_keys(self) -> bool:
        """An edit of the spec must fit `config`."""
        return self.has_state or self.state_unknown


def observe_checkpoint(
    claim: Json,
    record: Json | None,
    uid: str,
    applied: JobConfig | None,
    driver_status: DriverStatus | DriverUnreachable | None,
    batch_recorded: bool,
    *,
    folder: str = "",
) -> CheckpointClaim:
    """The claim as the DedupJob with this `uid` sees it. `folder`: the job's folder on a claim of the user.

    `applied`: the configuration with which the driver runs. `batch_recorded`: status.progress names a batch.
    """
    metadata = claim["metadata"]
    shared = bool(folder)
    annotated_object = (record or {"metadata": {}}) if shared else claim
    annotations = annotated_object["metadata"].get("annotations", {})
    recorded = annotations.get(CHECKPOINT_CONFIG)
    driver_says = _says_keys(driver_status)
    annotation_says = CHECKPOINT_BEGUN in annotations
    has_state = driver_says or batch_recorded or annotation_says
    state_unknown = _is_silent(driver_status) and not has_state
    config = parse_config(recorded) if recorded is not None else applied
    if (driver_says or state_unknown) and not annotation_says and applied is not None:
        # The operator may have recorded an edit a moment ago. The keys belong to the configuration with which the
        # driver runs.
        config = applied
    elif config is not None and applied is not None and isinstance(driver_status, DriverStatus) and driver_status.committed_in_this_run:
        # The driver has proved that its brokers hold the same topic. Version 0.1.0 blocks an address that is not recorded.
        config = _record_address(config, applied)
    return CheckpointClaim(
        phase=claim.get("status", {}).get("phase", "Pending"),
        deleting=is_deleting(claim),
        config=config,
        annotated=recorded is not None and parse_config(recorded) == config and _has_identity(annotations, config),
        has_state=has_state,
        state_unknown=state_unknown,
        owned=any(owner["uid"] == uid for owner in metadata.get("ownerReferences", [])),
        size=str(claim["spec"]["resources"]["requests"]["storage"]),
        raw=claim,
        name=metadata["name"],
        folder=folder,
        shared=shared,
        record=record,
        state_recorded=annotation_says,
        recreated=shared and annotations.get(CLAIM_UID, metadata["uid"]) != metadata["uid"],
    )


def _has_identity(annotations: Json, config: JobConfig | None) -> bool:
    """Another version may compute the hash of the same settings in another way."""
    return config is None or annotations.get(CHECKPOINT_IDENTITY) == state_identity(config)


def _record_address(config: JobConfig, applied: JobConfig) -> JobConfig:
    """The recorded settings with the brokers of the settings with which the driver runs."""
    servers = applied.source.bootstrap_servers
    if config.source.bootstrap_servers == servers or list_state_changes(config, applied):
        return config
    return config.model_copy(update={"source": config.source.model_copy(update={"bootstrap_servers": servers})})


def may_have_keys(driver_status: DriverStatus | DriverUnreachable | None) -> bool:
    """Whether the driver says that keys are stored, or does not say that none are."""
    return _says_keys(driver_status) or _is_silent(driver_status)


def _says_keys(driver_status: DriverStatus | DriverUnreachable | None) -> bool:
    return isinstance(driver_status, DriverStatus) and (driver_status.checkpoint_has_state or driver_status.progress.batch is not None)


def _is_silent(driver_status: DriverStatus | DriverUnreachable | None) -> bool:
    if isinstance(driver_status, DriverUnreachable):
        return True
    blocked_by = driver_status.blocked_by if isinstance(driver_status, DriverStatus) else None
    return blocked_by is not None and blocked_by.reason == Reason.CHECKPOINT_LOCKED


def find_applied_config(users: Iterable[Json], config_maps: Iterable[Json]) -> JobConfig | None:
    """The job.json that the driver has. None when it can no longer be read.

    `users`: workloads and pods that mount a ConfigMap. The driver's pod comes before the workload that creates the next
    one, because a run of a schedule may have other settings than the next run.
    """
    name = next((named for user in users if (named := find_config_map(user))), "")
    found = (config_map for config_map in config_maps if config_map["metadata"]["name"] == name)
    return next((parse_config(config_map.get("data", {}).get(CONFIG_KEY)) for config_map in found), None)


def find_checkpoint_owner(claim: Json | None, record: Json | None, name: str) -> str | None:
    """What else owns the checkpoint on a shared claim that the DedupJob `name` wants.

    None when it is free or already ours.
    """
    if record is not None:
        owner = record["metadata"].get("labels", {}).get(names.LABEL_JOB)
        if owner != name:
            return f"DedupJob {owner}" if owner else f"ConfigMap {record['metadata']['name']}, which the operator did not create"
    created_for = claim["metadata"].get("labels", {}).get(names.LABEL_JOB) if claim else None
    return f"DedupJob {created_for}, for which the operator created the claim" if created_for else None
