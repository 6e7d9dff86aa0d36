"""`spec.checkpoint`: on which volume the driver keeps its checkpoint.

An edit may not change what Kubernetes cannot change later. The checkpoint on the volume is `dedup_job/checkpoint/`, and
what the operator observes of the claim is `dedup_operator/domain/observe/checkpoint.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from dedup_api import names
from dedup_api.field_rules import quantity_rules
from dedup_api.model import ApiModel, rules
from dedup_api.unions import UnionModel


class AccessMode(StrEnum):
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


DEFAULT_SIZE = "10Gi"
DEFAULT_ACCESS_MODE = AccessMode.READ_WRITE_ONCE_POD


class Claim(ApiModel):
    """The volume claim that the operator creates for the checkpoint."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.size) || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('100Mi')) >= 0",
                "spec.checkpoint.claim.size is too small for a checkpoint: set at least 100Mi",
            ),
        )
    )

    size: str | int = Field(
        DEFAULT_SIZE,
        description="Size of the volume. The volume holds all keys of the watermark window twice, and small logs. "
        f"Quantity; default {DEFAULT_SIZE}, at least 100Mi. The size can grow, not shrink.",
        json_schema_extra=quantity_rules("spec.checkpoint.claim.size"),
    )
    storage_class_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = Field(
        None,
        description="Storage class of the volume. Name; the default class of the cluster when absent. It cannot be "
        "changed once the claim exists.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "spec.checkpoint.claim.storageClassName must be the name of a storage class: use lower-case letters, "
                "digits, '-' and '.', and begin and end with a letter or digit",
            )
        ),
    )
    access_mode: AccessMode = Field(
        DEFAULT_ACCESS_MODE,
        description="Access mode of the volume. With ReadWriteOncePod (default) Kubernetes refuses a second pod on the "
        "checkpoint. Use ReadWriteOnce or ReadWriteMany only if the storage driver does not support it. It "
        "cannot be changed once the claim exists.",
    )


class ReclaimPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class FsGroup(StrEnum):
    APPLY = "Apply"
    LEAVE = "Leave"


class ExistingClaim(ApiModel):
    """A volume claim that the user created. Several jobs may share it."""

    claim_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Name of the volume claim, in the namespace of the DedupJob. It must not be a claim that the "
        "operator created for a job. Required.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "spec.checkpoint.existing.claimName must be the name of a claim: use lower-case letters, digits, '-' "
                "and '.', and begin and end with a letter or digit",
            )
        ),
    )
    sub_path: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        None,
        description="Folder on the volume for this job alone. kubelet creates the folder if it is missing; with fsGroup: Leave it "
        f"must exist, and user or group {names.USER_ID} must be allowed to write to it. One name without slashes; the name of the DedupJob "
        "when absent. The operator never gives one folder to two jobs.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-zA-Z0-9][a-zA-Z0-9._-]*$')",
                "spec.checkpoint.existing.subPath must be one name without slashes: use letters, digits, '.', '_' and "
                "'-', and begin with a letter or digit",
            )
        ),
    )
    fs_group: FsGroup = Field(
        FsGroup.APPLY,
        description="Whether kubelet gives the volume to the driver's group. Apply (default): the pod has "
        f"securityContext.fsGroup {names.USER_ID}, so kubelet changes the group of every file on the volume, not only of the job's "
        "folder, unless the volume's root has that group already. Leave: kubelet changes nothing; user or group "
        f"{names.USER_ID} must be allowed to write to the folder.",
    )


_FIND_CLAIM = (
    "(has({it}.spec.checkpoint) && has({it}.spec.checkpoint.claim) && has({it}.spec.checkpoint.claim.{field}) ? "
    "{it}.spec.checkpoint.claim.{field} : '{default}')"
)
_HAS_EXISTING = "(has({it}.spec.checkpoint) && has({it}.spec.checkpoint.existing))"
_FOLDER = "(has({it}.spec.checkpoint.existing.subPath) ? {it}.spec.checkpoint.existing.subPath : self.metadata.name)"
_HAS_KEYS = (
    "(has(oldSelf.status) && (has(oldSelf.status.progress) && has(oldSelf.status.progress.batch) || "
    "has(oldSelf.status.checkpoint) && has(oldSelf.status.checkpoint.keysStored) && oldSelf.status.checkpoint.keysStored))"
)


def _claim_edit(rule: str, field: str, default: str) -> str:
    """A CEL rule on edits of a claim that the operator has created. `rule` compares `old` and `new`, the values before and
    after the edit. A claim that the spec leaves out counts as the default claim."""
    old, new = (_FIND_CLAIM.format(it=it, field=field, default=default) for it in ("oldSelf", "self"))
    has_claim = "has(oldSelf.status) && has(oldSelf.status.checkpoint) && has(oldSelf.status.checkpoint.claim)"
    with_existing = " || ".join(_HAS_EXISTING.format(it=it) for it in ("self", "oldSelf"))
    return f"!({has_claim}) || {with_existing} || {rule.format(old=old, new=new)}"


def _existing_edit() -> str:
    """A CEL rule: once keys are stored, spec.checkpoint.existing stays at the same claim and folder."""
    old, new = (_HAS_EXISTING.format(it=it) for it in ("oldSelf", "self"))
    folders = " == ".join(_FOLDER.format(it=it) for it in ("oldSelf", "self"))
    claims = "self.spec.checkpoint.existing.claimName == oldSelf.spec.checkpoint.existing.claimName"
    return f"!{_HAS_KEYS} || {new} == {old} && (!{new} || {claims} && {folders})"


CHECKPOINT_EDITS = (
    (
        _existing_edit(),
        "spec.checkpoint.existing cannot be changed once keys are stored, because the stored keys stay where they are: "
        "revert the edit, or create a new DedupJob",
    ),
    (
        _claim_edit(
            "!isQuantity(string({old})) || !isQuantity(string({new})) || quantity(string({new})).compareTo(quantity(string({old}))) >= 0",
            "size",
            DEFAULT_SIZE,
        ),
        f"spec.checkpoint.claim.size cannot shrink (it is {DEFAULT_SIZE} when absent), because Kubernetes "
        "only lets a claim grow: revert the edit, or create a new DedupJob with a smaller claim",
    ),
    (
        _claim_edit("{new} == {old}", "storageClassName", ""),
        "spec.checkpoint.claim.storageClassName cannot be changed, set or removed once the claim exists, because Kubernetes "
        "does not move a claim: revert the edit, or create a new DedupJob",
    ),
    (
        _claim_edit("{new} == {old}", "accessMode", DEFAULT_ACCESS_MODE),
        f"spec.checkpoint.claim.accessMode cannot be changed (it is {DEFAULT_ACCESS_MODE} when absent), "
        "because Kubernetes fixes it when the claim is created: revert the edit, or create a new DedupJob",
    ),
)
"""CEL rules on edits of spec.checkpoint, each with its message. They stand on the whole DedupJob: there they can read
the status, which says whether keys are stored, and the API server evaluates them also when an edit adds or removes
spec.checkpoint or its claim."""


class Checkpoint(UnionModel):
    """Where the driver stores the keys that it has seen and its position in the topic. At most one of claim and
    existing."""

    union_path = "spec.checkpoint"
    union_members = ("claim", "existing")
    union_required = False
    union_help = ": the operator creates the volume claim that claim describes, and existing names a volume claim that you created"
    union_stored_defaults: ClassVar = {"claim": {"size": DEFAULT_SIZE, "accessMode": DEFAULT_ACCESS_MODE.value}}

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.existing) || self.reclaimPolicy != 'Delete'",
                "spec.checkpoint.reclaimPolicy cannot be Delete with spec.checkpoint.existing, because the claim is "
                "yours and other jobs may use it: set Retain",
            ),
        )
    )

    claim: Claim | None = Field(
        None, description="The volume claim that the operator creates for this job alone. This is the default when neither member is set."
    )
    existing: ExistingClaim | None = Field(
        None,
        description="A folder on a volume claim that you created. Kubernetes then does not refuse a second pod on the "
        "checkpoint, as it does with ReadWriteOncePod; the driver's own locks do. It cannot be changed "
        "once keys are stored. Absent by default.",
    )
    reclaim_policy: ReclaimPolicy = Field(
        ReclaimPolicy.RETAIN,
        description="What happens to the claim when the DedupJob is deleted. Retain (default) keeps the claim, and a "
        "new DedupJob of the same name continues from it. Delete deletes the claim too.",
    )

    @property
    def own_claim(self) -> Claim | None:
        """The claim that the operator creates; None with `existing`."""
        return None if self.existing is not None else self.claim or Claim()
