"""Every reason that a DedupJob can report, once.

The same words stand in conditions, events, the driver's termination message, metric labels and `docs/reasons.md`, which
is generated from this table. A reason is never reported without an entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    # Ready is True
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    # Ready is Unknown: on the way
    STARTING = "Starting"
    RESTARTING = "Restarting"
    SUSPENDING = "Suspending"
    # Ready is False: the spec
    INVALID_SPEC = "InvalidSpec"
    CHANGE_BLOCKED = "ChangeBlocked"
    NAME_CONFLICT = "NameConflict"
    # Ready is False: the cluster
    CHECKPOINT_PENDING = "CheckpointPending"
    CHECKPOINT_LOST = "CheckpointLost"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    POD_REJECTED = "PodRejected"
    # Ready is False: Kafka
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_TOPIC_MISSING = "SourceTopicMissing"
    SINK_TOPIC_MISSING = "SinkTopicMissing"
    # Ready is False: the driver
    NO_PROGRESS = "NoProgress"
    DRIVER_FAILED = "DriverFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    CONFIGURATION_REFUSED = "ConfigurationRefused"
    CHECKPOINT_NOT_WRITABLE = "CheckpointNotWritable"
    # Details of single conditions
    CHECKPOINT_BOUND = "CheckpointBound"
    NOT_STARTED = "NotStarted"
    PROGRESS_RECENT = "ProgressRecent"


@dataclass(frozen=True)
class Explanation:
    """What a reason means and what to do about it; both are sentences for people."""

    meaning: str
    remedy: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.RUNNING: Explanation("Batches commit, or the topic is quiet and the driver is healthy.", "Nothing to do."),
    Reason.SUSPENDED: Explanation(
        "spec.suspend is true and the driver has stopped. State and position are kept.", "Set spec.suspend to false to go on."
    ),
    Reason.STARTING: Explanation(
        "The driver is on its way to its first batch.",
        "Wait; a start takes seconds once the image is on the node. `kubectl describe` shows the steps.",
    ),
    Reason.RESTARTING: Explanation(
        "The driver stops after the batch it is in and starts again with the new settings, or it ended and is being started again.", "Wait."
    ),
    Reason.SUSPENDING: Explanation("spec.suspend is true and the driver is finishing the batch it is in.", "Wait."),
    Reason.INVALID_SPEC: Explanation(
        "The spec says something that the operator cannot act on. A driver that was running goes on with its last valid settings.",
        "Correct the field that the message names.",
    ),
    Reason.CHANGE_BLOCKED: Explanation(
        "The edit needs a new checkpoint: keys are stored, and they would not fit it. The driver goes on with the settings it had.",
        "Take the edit back, or make a new DedupJob under another name with the new settings.",
    ),
    Reason.NAME_CONFLICT: Explanation(
        "An object with the name of one of this job's children exists and belongs to somebody else. It is left alone.",
        "Rename the DedupJob, or remove the object that the message names if nobody needs it.",
    ),
    Reason.CHECKPOINT_PENDING: Explanation(
        "The volume claim of the checkpoint is not bound.",
        "Look at `kubectl describe pvc` for the claim in the message: mostly the storage class does not exist, has no provisioner or does "
        "not offer the access mode. The job goes on by itself when the claim is bound.",
    ),
    Reason.CHECKPOINT_LOST: Explanation(
        "The volume behind the checkpoint's claim is gone, or the claim is being deleted.",
        "Restore the volume from a backup. To begin anew, and accept duplicates of what was processed before, delete the claim and the "
        "DedupJob and apply it again.",
    ),
    Reason.UNSCHEDULABLE: Explanation(
        "No node can take the driver's pod.",
        "Free or add resources, or lower spec.driver.resources.requests. The message is the scheduler's.",
    ),
    Reason.IMAGE_UNAVAILABLE: Explanation(
        "The node cannot get the job image.",
        "Check job.image in the chart's values, that the registry can be reached and the pull secrets. The pull is repeated by itself.",
    ),
    Reason.POD_REJECTED: Explanation(
        "The API server refuses the driver's pod: a quota, a limit range, a policy or a webhook.",
        "The message is the API server's. Change what it names; the pod is tried again by itself.",
    ),
    Reason.SOURCE_UNAVAILABLE: Explanation(
        "No broker of spec.source.bootstrapServers answers.",
        "Check spec.source.bootstrapServers, the brokers and the network policies between the driver and them. The driver keeps trying.",
    ),
    Reason.SOURCE_TOPIC_MISSING: Explanation(
        "The topic spec.source.topic does not exist.", "Create the topic or correct its name. The driver keeps looking."
    ),
    Reason.SINK_TOPIC_MISSING: Explanation(
        "The topic spec.sink.kafka.topic does not exist.", "Create the topic or correct its name. The driver keeps looking."
    ),
    Reason.NO_PROGRESS: Explanation(
        "Records are waiting, or the driver does not answer, and no batch has committed for a long time.",
        "Look at `kubectl logs` of the driver's pod and at the batch duration in its metrics. "
        "kubelet restarts a driver whose health check fails.",
    ),
    Reason.DRIVER_FAILED: Explanation(
        "The driver ended with an error and is started again with growing pauses.",
        "The message is the driver's last; `kubectl logs --previous` has the rest.",
    ),
    Reason.OUT_OF_MEMORY: Explanation(
        "The driver needed more memory than it has: the kernel killed it at its limit, or the JVM found its heap exhausted.",
        "Raise spec.driver.resources.limits.memory, or lower spec.source.maxOffsetsPerTrigger.",
    ),
    Reason.CONFIGURATION_REFUSED: Explanation(
        "The driver cannot work with its settings, and trying again would not help.", "Correct the field that the message names."
    ),
    Reason.CHECKPOINT_NOT_WRITABLE: Explanation(
        "The checkpoint's volume is read-only, full, or not writable for the driver's user (10001).",
        "Make room by growing spec.checkpoint.claim.size, or correct the volume's permissions.",
    ),
    Reason.CHECKPOINT_BOUND: Explanation("The claim of the checkpoint is bound to a volume.", "Nothing to do."),
    Reason.NOT_STARTED: Explanation("There is no driver at the moment.", "The condition Ready says why."),
    Reason.PROGRESS_RECENT: Explanation("The last batch committed recently, or nothing is waiting.", "Nothing to do."),
}
