"""The part of the spec that says where the checkpoint is. What Kubernetes cannot change afterwards, no edit may change."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

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
    """The volume claim that the operator makes for the checkpoint."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.size) || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('100Mi')) >= 0",
                "spec.checkpoint.claim.size is too little for a checkpoint: give it at least 100Mi",
            ),
        )
    )

    size: str | int = Field(
        DEFAULT_SIZE,
        description="Size of the volume: the state of all keys in the window, twice, and some logs. Quantity; default "
        f"{DEFAULT_SIZE}. It can grow, not shrink.",
        json_schema_extra=quantity_rules("spec.checkpoint.claim.size"),
    )
    storage_class_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = Field(
        None,
        description="Storage class of the volume; the cluster's default class when absent. Cannot be changed afterwards.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "spec.checkpoint.claim.storageClassName must be the name of a storage class: small letters, digits, '-' and '.'",
            )
        ),
    )
    access_mode: AccessMode = Field(
        DEFAULT_ACCESS_MODE,
        description="ReadWriteOncePod (default) lets Kubernetes itself refuse a second pod on the checkpoint. ReadWriteOnce or "
        "ReadWriteMany only where the storage driver lacks it. Cannot be changed afterwards.",
    )


class ReclaimPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class ExistingClaim(ApiModel):
    """A volume claim of your own, which several jobs may share."""

    claim_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Name of the claim, in the DedupJob's namespace. It must not be one that the operator made for a job. Required.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "spec.checkpoint.existing.claimName must be the name of a claim: small letters, digits, '-' and '.'",
            )
        ),
    )
    sub_path: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        None,
        description="Folder of the claim that is this job's alone; it is made where it is missing. One name, no path. The name of the "
        "DedupJob when absent. Two jobs never get the same one.",
        json_schema_extra=rules(
            (
                "self.matches('^[a-zA-Z0-9][a-zA-Z0-9._-]*$')",
                "spec.checkpoint.existing.subPath must be one name: letters, digits, '.', '_' and '-', beginning with a letter or digit",
            )
        ),
    )


def _claim_edit(rule: str, field: str, default: str) -> str:
    """CEL for a rule on edits, with `old` and `new` for the two values, that holds where the operator makes the claim.

    A claim that the spec leaves out is then the default one. It is compared as such, and on the checkpoint: a rule on the claim itself is
    not asked when the claim comes or goes, so whoever takes it out and puts another in would pass.
    """
    old, new = (f"(has({it}.claim) && has({it}.claim.{field}) ? {it}.claim.{field} : '{default}')" for it in ("oldSelf", "self"))
    return f"has(self.existing) || has(oldSelf.existing) || {rule.format(old=old, new=new)}"


class Checkpoint(UnionModel):
    """Where the job keeps which keys it has seen and how far it has read. At most one of claim and existing."""

    union_path = "spec.checkpoint"
    union_members = ("claim", "existing")
    union_required = False
    union_help = ": the operator creates the volume claim that claim describes, and existing names a volume claim that you created"

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.existing) || self.reclaimPolicy != 'Delete'",
                "spec.checkpoint.reclaimPolicy: Delete is not for existing: the claim is yours, and others may use it; set Retain",
            ),
            (
                "has(self.existing) == has(oldSelf.existing) && (!has(self.existing) || self.existing == oldSelf.existing)",
                "spec.checkpoint.existing cannot be changed: the keys stay where they are; take the edit back, or make a new DedupJob",
            ),
            (
                _claim_edit(
                    "!isQuantity(string({old})) || !isQuantity(string({new})) "
                    "|| quantity(string({new})).compareTo(quantity(string({old}))) >= 0",
                    "size",
                    DEFAULT_SIZE,
                ),
                f"spec.checkpoint.claim.size cannot shrink, and is {DEFAULT_SIZE} when absent: Kubernetes only lets a claim grow; take the "
                "edit back, or make a new DedupJob for a smaller one",
            ),
            (
                _claim_edit("{new} == {old}", "storageClassName", ""),
                "spec.checkpoint.claim.storageClassName cannot be changed, nor set or removed: Kubernetes does not move a claim; take the "
                "edit back, or make a new DedupJob",
            ),
            (
                _claim_edit("{new} == {old}", "accessMode", DEFAULT_ACCESS_MODE),
                f"spec.checkpoint.claim.accessMode cannot be changed, and is {DEFAULT_ACCESS_MODE} when absent: Kubernetes fixes it when "
                "the claim is made; take the edit back, or make a new DedupJob",
            ),
        )
    )

    claim: Claim | None = Field(
        None, description="The volume claim that the operator makes for this job alone; the default, also where neither is given."
    )
    existing: ExistingClaim | None = Field(
        None,
        description="A folder of a claim that is there already. Kubernetes then does not refuse a second pod on it, as it does with "
        "claim's ReadWriteOncePod; the driver's own locks do. Cannot be changed afterwards.",
    )
    reclaim_policy: ReclaimPolicy = Field(
        ReclaimPolicy.RETAIN,
        description="What becomes of the claim when the DedupJob is deleted: Retain (default) keeps it, and a DedupJob of the same "
        "name goes on from it; Delete removes it with the job.",
    )

    @property
    def own_claim(self) -> Claim | None:
        """What the operator makes; None with `existing`."""
        return None if self.existing is not None else self.claim or Claim()
