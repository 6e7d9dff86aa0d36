"""The annotations that the operator writes on its objects, and the content of those that are more than a text.

An annotation outlives the process that wrote it, and some outlive the DedupJob. Their keys and values are part of the
upgrade contract.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from dedup_api import names
from dedup_api.status import DriverExit
from dedup_operator.domain.types import Json

APPLIED_SPEC = f"{names.GROUP}/applied-spec"
"""On the workload, and on each run of a schedule: the part of
the spec from which the operator built the pod template."""
APPLIED_GENERATION = f"{names.GROUP}/applied-generation"
"""On the workload: its metadata.generation after the operator's last write. A different metadata.generation means that
something else changed its spec. The operator never compares the workload with its own builders, so a new version or
default is not drift."""
CHECKPOINT_CONFIG = f"{names.GROUP}/checkpoint-config"
"""On the claim: the job.json with which the driver made the checkpoint. It outlives the DedupJob, so the operator can
compare it, field by field, with a later DedupJob of the same name."""
CHECKPOINT_IDENTITY = f"{names.GROUP}/checkpoint-identity"
"""On the claim: the hash that status.checkpoint.identity shows."""
CHECKPOINT_BEGUN = f"{names.GROUP}/checkpoint-begun"
"""On the claim: the checkpoint has state, that is, a driver may
have stored keys in it. Before that, every field may change."""
CLAIM_UID = f"{names.GROUP}/claim-uid"
"""On the record of a shared claim: the UID of the claim that holds
the keys. Another claim of the same name holds none of them."""
ROLLING = f"{names.GROUP}/rolling"
"""On the workload: the operator scaled it to 0 for a restart, and scales it to 1 when its pod is gone."""
GIVEN_UP = f"{names.GROUP}/given-up"
"""On the workload: why, and at which metadata.generation of the DedupJob, the operator stopped starting the driver."""

RESTARTED_FOR = f"{names.GROUP}/restarted-for"
"""On the workload: the value of `kubectl rollout restart` for which the operator has restarted the driver last."""
MAX_REASON_LENGTH = 64
"""Characters. The CRD allows no more."""

OWN_SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGER}"
"""The label selector of all watches. The API server sends no object without this label."""


@dataclass(frozen=True)
class GivenUp:
    """The content of the annotation GIVEN_UP."""

    generation: int
    reason: str
    """A `Reason`, or a reason that only a newer operator knows. The DedupJob stays given up in both cases."""
    message: str
    exit: DriverExit | None = None
    """The exit for which the operator gave up. Kubernetes deletes the pod after the decision and before the operator
    writes the status. An operator that restarts in between reads the exit here."""

    def render(self) -> str:
        document: Json = {"generation": self.generation, "reason": self.reason, "message": self.message}
        return json.dumps(document | ({"exit": self.exit.to_json_dict()} if self.exit else {}))


def parse_given_up(text: str | None) -> GivenUp | None:
    """Parses what `GivenUp.render` wrote. None when `text` is missing or unreadable."""
    try:
        document = json.loads(text) if text else {}
        exit = DriverExit.model_validate(document["exit"]) if "exit" in document else None
        return GivenUp(int(document["generation"]), str(document["reason"])[:MAX_REASON_LENGTH], str(document["message"]), exit)
    except (ValueError, KeyError, TypeError):
        return None
