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
    COMPLETED = "Completed"
    SCHEDULED = "Scheduled"
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
    CHECKPOINT_TAKEN = "CheckpointTaken"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    POD_REJECTED = "PodRejected"
    # Ready is False: Kafka
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_TOPIC_MISSING = "SourceTopicMissing"
    SOURCE_TOPIC_REPLACED = "SourceTopicReplaced"
    SOURCE_DATA_LOST = "SourceDataLost"
    SINK_TOPIC_MISSING = "SinkTopicMissing"
    DEAD_LETTER_TOPIC_MISSING = "DeadLetterTopicMissing"
    SINK_REFUSED = "SinkRefused"
    SINK_PROGRESS_LOST = "SinkProgressLost"
    AUTHORIZATION_FAILED = "AuthorizationFailed"
    # Ready is False: the records
    INVALID_RECORD = "InvalidRecord"
    # Ready is False: the driver
    NO_PROGRESS = "NoProgress"
    DRIVER_FAILED = "DriverFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    CONFIGURATION_REFUSED = "ConfigurationRefused"
    CHECKPOINT_NOT_WRITABLE = "CheckpointNotWritable"
    CHECKPOINT_DAMAGED = "CheckpointDamaged"
    CHECKPOINT_LOCKED = "CheckpointLocked"
    FENCED = "Fenced"
    GRACE_PERIOD_EXCEEDED = "GracePeriodExceeded"
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
    Reason.COMPLETED: Explanation(
        "With spec.trigger.availableNow: the driver took what the topic held when it started, and ended. State and position are kept.",
        "Raise spec.restartNonce to run it again, or give spec.trigger.availableNow a schedule.",
    ),
    Reason.SCHEDULED: Explanation(
        "With spec.trigger.availableNow.schedule: no run is going on, and the next one begins when the schedule says, in UTC.",
        "Nothing to do. To run now: `kubectl create job --from=cronjob/<name>-driver <name>-now`.",
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
        "An object with the name of one of this job's children exists and belongs to somebody else, or a pod with this job's label has no "
        "owner. It is left alone, and the operator starts no driver beside it.",
        "Rename the DedupJob, or remove the object that the message names if nobody needs it.",
    ),
    Reason.CHECKPOINT_PENDING: Explanation(
        "The volume claim of the checkpoint is not bound.",
        "Look at `kubectl describe pvc` for the claim in the message: mostly the storage class does not exist, has no provisioner or does "
        "not offer the access mode. The job goes on by itself when the claim is bound.",
    ),
    Reason.CHECKPOINT_LOST: Explanation(
        "The volume behind the checkpoint's claim is gone, the claim is being deleted, or a shared claim was deleted and made again.",
        "Restore the volume from a backup. To begin anew, and accept duplicates of what was processed before, delete the claim and the "
        "DedupJob and apply it again.",
    ),
    Reason.CHECKPOINT_TAKEN: Explanation(
        "The folder that spec.checkpoint.existing names is the checkpoint of another DedupJob, which may be deleted by now. Nothing was "
        "started on it.",
        "Make a new DedupJob with another spec.checkpoint.existing.subPath. If the other job and its keys are not needed any more, delete "
        "the folder and the ConfigMap `checkpoint-…` that has the other job's label streamdedup.dev/job.",
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
    Reason.DEAD_LETTER_TOPIC_MISSING: Explanation(
        "The topic spec.deadLetter.topic does not exist.", "Create the topic or correct its name. The driver keeps looking."
    ),
    Reason.INVALID_RECORD: Explanation(
        "A record has no readable payload, key or event time, and spec.onInvalid is Fail. The message names its partition and offset and "
        "what is wrong with it (docs/records.md has the list). Nothing of its batch was written.",
        "Look at the record. If records of this topic are like that, correct spec.format, spec.key or spec.eventTime, in a new DedupJob "
        "where keys are stored. If it is an exception, set spec.onInvalid to DeadLetter, which keeps such records in "
        "spec.deadLetter.topic, or to Drop, which only counts them. If the record was deleted meanwhile, raise spec.restartNonce.",
    ),
    Reason.SOURCE_TOPIC_REPLACED: Explanation(
        "The topic spec.source.topic was deleted and made again: the offsets of the checkpoint belong to the old one.",
        "If what the old topic still held may be skipped, set spec.source.onDataLoss to Continue: the job goes on at the beginning of the "
        "new topic and remembers the keys it has seen. Otherwise bring the old topic back, and raise spec.restartNonce.",
    ),
    Reason.SOURCE_DATA_LOST: Explanation(
        "The topic no longer holds records that the job has not read: retention or a deletion of records overtook it.",
        "Lengthen the topic's retention. To skip what is gone, set spec.source.onDataLoss to Continue: it is counted in "
        "status.progress.lost, and the driver's log names partitions and ranges.",
    ),
    Reason.SINK_REFUSED: Explanation(
        "The brokers refuse to write what the job hands them: mostly a record larger than max.message.bytes of the output topic, or a "
        "transaction.max.timeout.ms below 15 minutes. The batch is not written, nor is anything lost.",
        "Change the setting that the message names, on the topic or the brokers. The driver tries again by itself, with growing pauses.",
    ),
    Reason.SINK_PROGRESS_LOST: Explanation(
        "The marker in the progress topic, which says up to which batch the output is written, is missing or does not fit the checkpoint: "
        "the topic or its records were deleted, or the checkpoint was restored from an older copy.",
        "Going on could lose records or write them twice, so the driver does not guess. Restore the progress topic or the checkpoint, then "
        "raise spec.restartNonce. To accept copies of what the output is ahead by, set spec.sink.kafka.delivery to AtLeastOnce, wait for a "
        "committed batch, and set it back.",
    ),
    Reason.AUTHORIZATION_FAILED: Explanation(
        "The brokers refuse the driver: its credentials, or its rights on a topic, a group or a transactional id.",
        "Grant what the message names; docs/operations.md lists the rights a job needs. The driver tries again by "
        "itself, with growing pauses.",
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
    Reason.CHECKPOINT_DAMAGED: Explanation(
        "A file of the checkpoint is missing, empty or cut off, and what it held cannot be derived from the others.",
        "The message names the file. Restore the volume from a backup, then raise spec.restartNonce. To begin anew, and accept copies of "
        "what was processed before, delete the DedupJob and its claim and apply it again.",
    ),
    Reason.CHECKPOINT_LOCKED: Explanation(
        "Another driver process holds the checkpoint: one whose pod was removed by force, or a pod made by hand.",
        "Wait for it to end; the newcomer tries again by itself. If it does not end, find the process on the node that the old pod ran on.",
    ),
    Reason.FENCED: Explanation(
        "A newer driver has taken over the checkpoint or the transactional id while this one was alive, or a batch took longer than the 15 "
        "minutes that its transaction may last. This driver ended without writing.",
        "Nothing to do where it happens once, after a node or a process was frozen. If it comes back after a "
        "quarter of an hour each time, lower spec.source.maxOffsetsPerTrigger; otherwise two drivers share a checkpoint: look for a pod "
        "made by hand.",
    ),
    Reason.GRACE_PERIOD_EXCEEDED: Explanation(
        "A batch took longer than the pod's termination grace period, so the driver was killed in the middle of it. With delivery "
        "ExactlyOnce the batch is taken up again and nothing is lost or twice; with AtLeastOnce a part of it may be written again.",
        "Lower spec.source.maxOffsetsPerTrigger or give the driver more CPU, so that a batch ends within the grace period.",
    ),
    Reason.CHECKPOINT_BOUND: Explanation("The claim of the checkpoint is bound to a volume.", "Nothing to do."),
    Reason.NOT_STARTED: Explanation("There is no driver at the moment.", "The condition Ready says why."),
    Reason.PROGRESS_RECENT: Explanation("The last batch committed recently, or nothing is waiting.", "Nothing to do."),
}
