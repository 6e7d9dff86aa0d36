"""The decisions that `decide` can make, and what it decides from.

The rules are in `decide.py`; `adapters/apply.py` executes decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import GivenUp
from dedup_operator.domain.driver_settings import DriverSettings
from dedup_operator.domain.observe.state import ObservedState
from dedup_operator.domain.observe.workload import Workload
from dedup_operator.domain.validate import ValidJob


@dataclass(frozen=True)
class Start:
    """Create the missing objects and run one driver with the present pod template."""

    first: bool


@dataclass(frozen=True)
class Keep:
    """Leave the driver as it is.

    Either it runs with the present settings, or Kubernetes is about to start or replace its pod.
    """

    repair: bool = True
    """False while the operator pauses before it restores a workload that something else changes again and again. Then it
    writes nothing to the workload."""
    refused: str = ""
    """What the API server refused to write for a later start. The driver that runs now does not need it."""


@dataclass(frozen=True)
class ScaleDownForRestart:
    """Scale the workload to 0. When the pod is gone, a later reconciliation decides `Start`."""

    message: str


@dataclass(frozen=True)
class UpdateSchedule:
    """Write the new settings into the CronJob for its next run.

    A run that processes records continues with the old settings.
    """

    message: str
    stop_run: bool
    """Stop the present run, because it makes no progress or because spec.restartNonce has changed."""
    settings: bool = True
    """False when the CronJob has the new settings already, and only a run with the old settings must stop."""


@dataclass(frozen=True)
class RepairDrift:
    """Something else changed the workload's spec. Restore the spec for the next start. The running driver continues."""


@dataclass(frozen=True)
class RemoveWorkload:
    """Delete a workload that has no driver and cannot run the next one.

    The operator creates nothing before its pods are gone.
    """

    workload: Workload


@dataclass(frozen=True)
class Suspend:
    """Scale the workload to 0, because spec.suspend is true."""


@dataclass(frozen=True)
class Suspended:
    """spec.suspend is true, and no driver runs."""


@dataclass(frozen=True)
class Wait:
    """Write nothing until something else has happened, such as the deletion of an old pod."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Refuse:
    """The spec or the cluster does not allow a start. A running driver continues, unless `stop` is true."""

    reason: Reason
    message: str
    stop: bool = False
    resume: bool = False
    """The refused edit came in the middle of a restart. Start the
    driver again with the settings that it had before the edit."""


@dataclass(frozen=True)
class GiveUp:
    """A restart cannot help. Run no driver until the spec changes."""

    why: GivenUp


Decision = Start | Keep | ScaleDownForRestart | UpdateSchedule | RepairDrift | RemoveWorkload | Suspend | Suspended | Wait | Refuse | GiveUp


@dataclass(frozen=True)
class DecisionInput:
    """Everything that a rule of `decide` may use."""

    job: ValidJob
    observed: ObservedState
    desired: DriverSettings
    image: str
    """The job image for the next start."""
    config_map: str
    """The name of the ConfigMap for the next start."""
