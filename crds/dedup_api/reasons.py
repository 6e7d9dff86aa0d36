"""Every reason that a DedupJob can report.

Conditions, events, the driver's termination message, metric labels and `docs/reasons.md` use these names. The page is
generated from EXPLANATIONS, and the operator copies the remedy into the condition's message, so a reason needs an entry
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    # Ready is True.
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    SCHEDULED = "Scheduled"
    # Ready is Unknown: the driver starts or stops.
    STARTING = "Starting"
    RESTARTING = "Restarting"
    SUSPENDING = "Suspending"
    # Ready is Unknown: the operator cannot see what the driver does.
    DRIVER_UNREACHABLE = "DriverUnreachable"
    # Ready is False because of the spec.
    INVALID_SPEC = "InvalidSpec"
    CHANGE_BLOCKED = "ChangeBlocked"
    NAME_CONFLICT = "NameConflict"
    # Ready is False because of the Kubernetes cluster.
    CHECKPOINT_PENDING = "CheckpointPending"
    CHECKPOINT_LOST = "CheckpointLost"
    CHECKPOINT_TAKEN = "CheckpointTaken"
    RECLAIM_POLICY_REFUSED = "ReclaimPolicyRefused"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    POD_REJECTED = "PodRejected"
    # Ready is False because of Kafka.
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_TOPIC_MISSING = "SourceTopicMissing"
    SOURCE_TOPIC_REPLACED = "SourceTopicReplaced"
    SOURCE_CLUSTER_CHANGED = "SourceClusterChanged"
    SOURCE_DATA_LOST = "SourceDataLost"
    SINK_TOPIC_MISSING = "SinkTopicMissing"
    DEAD_LETTER_TOPIC_MISSING = "DeadLetterTopicMissing"
    SINK_UNAVAILABLE = "SinkUnavailable"
    TRANSACTIONS_UNAVAILABLE = "TransactionsUnavailable"
    SINK_REFUSED = "SinkRefused"
    SINK_PROGRESS_LOST = "SinkProgressLost"
    CONSUMER_GROUP_TAKEN = "ConsumerGroupTaken"
    AUTHORIZATION_FAILED = "AuthorizationFailed"
    # Ready is False because of a record.
    INVALID_RECORD = "InvalidRecord"
    # Ready is False because of the driver.
    NO_PROGRESS = "NoProgress"
    DRIVER_FAILED = "DriverFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    CONFIGURATION_REFUSED = "ConfigurationRefused"
    CHECKPOINT_NOT_WRITABLE = "CheckpointNotWritable"
    CHECKPOINT_DAMAGED = "CheckpointDamaged"
    CHECKPOINT_LOCKED = "CheckpointLocked"
    FENCED = "Fenced"
    GRACE_PERIOD_EXCEEDED = "GracePeriodExceeded"
    # In the condition Warning, beside any Ready.
    EVENT_TIMES_IMPLAUSIBLE = "EventTimesImplausible"
    KAFKA_TIMESTAMPS_IMPLAUSIBLE = "KafkaTimestampsImplausible"
    BATCH_LIMIT_REDUCED = "BatchLimitReduced"
    SOURCE_TRANSACTION_OPEN = "SourceTransactionOpen"
    # Only in events.
    WORKLOAD_CHANGED = "WorkloadChanged"
    RESTART_IGNORED = "RestartIgnored"
    # Only in the conditions CheckpointReady, DriverRunning and ProgressRecent.
    CHECKPOINT_BOUND = "CheckpointBound"
    NOT_STARTED = "NotStarted"
    PROGRESS_RECENT = "ProgressRecent"


@dataclass(frozen=True)
class Explanation:
    """What a reason means, and what the user must do. Both are full sentences; the remedy names a field or a
    command."""

    meaning: str
    remedy: str


def find_explanation(reason: str) -> Explanation:
    """The explanation of a reason. It works for every text, because a newer operator or a newer job image may report a
    reason that this version does not know."""
    known = EXPLANATIONS.get(Reason(reason)) if reason in set(Reason) else None
    return known or Explanation(
        f"A newer version of the operator or of the job image has reported {reason}.",
        f"Read about {reason} in docs/reasons.md of the newer version.",
    )


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.RUNNING: Explanation(
        "The driver commits batches, or the driver is healthy and the source topic has no new records.",
        "No action is needed.",
    ),
    Reason.SUSPENDED: Explanation(
        "spec.suspend is true, and the driver has stopped. The stored keys and the position in the topic are kept.",
        "To resume, set spec.suspend to false. The driver then continues where it stopped.",
    ),
    Reason.COMPLETED: Explanation(
        "The driver has processed all records that the topic held when the driver started, and has ended, as "
        "spec.trigger.availableNow asks. The stored keys and the position in the topic are kept.",
        "To run the job again, increase spec.restartNonce. To run it regularly, set spec.trigger.availableNow.schedule.",
    ),
    Reason.SCHEDULED: Explanation(
        "No run is active. The next run starts at the time that spec.trigger.availableNow.schedule gives, in UTC.",
        "No action is needed. To start a run now, use `kubectl create job --from=cronjob/<name>-driver <name>-now`.",
    ),
    Reason.STARTING: Explanation(
        "The driver is starting and has not committed a batch yet.",
        "Wait. A start takes seconds when the node already has the job image. `kubectl describe dedupjob <name>` shows the steps.",
    ),
    Reason.RESTARTING: Explanation(
        "The driver stops after the current batch and starts again with the new settings, or the driver ended and kubelet restarts it.",
        "Wait. The message says why the driver restarts.",
    ),
    Reason.SUSPENDING: Explanation(
        "spec.suspend is true, and the driver is finishing the current batch.",
        "Wait. The driver has two minutes to finish the batch.",
    ),
    Reason.DRIVER_UNREACHABLE: Explanation(
        "The operator gets no answer from the driver on TCP port 8080 of the driver's pod. The driver does not need the "
        "operator, so it may work normally. Ready is Unknown. The numbers in status.progress are old: the operator read them "
        "at status.progress.observedAt.",
        "Allow TCP connections from the operator's pod to port 8080 of the driver's pod: check the NetworkPolicies of "
        "both namespaces and the service mesh; docs/operations.md has an example. To see whether the driver works, read its "
        "log with `kubectl logs <name>-driver-0`.",
    ),
    Reason.INVALID_SPEC: Explanation(
        "The operator cannot act on the spec. A driver that is running continues with the last valid settings.",
        "Correct the field that the message names.",
    ),
    Reason.CHANGE_BLOCKED: Explanation(
        "The edit needs a new checkpoint, because the stored keys do not fit the new settings. A driver that is "
        "running continues with the old settings.",
        "Revert the edit, or create a new DedupJob under another name with the new settings.",
    ),
    Reason.NAME_CONFLICT: Explanation(
        "An object that does not belong to this DedupJob has the name of one of its child objects, or a pod with the "
        "label of this job has no owner. The operator leaves that object alone and starts no driver beside it.",
        "If the object is a claim that you have restored from a snapshot, do not delete it: add its labels and annotations "
        "(docs/operations.md, Restore a checkpoint from a snapshot). If nobody needs the object that the message names, "
        "delete it. Otherwise create the DedupJob under another name. The job continues automatically.",
    ),
    Reason.CHECKPOINT_PENDING: Explanation(
        "The checkpoint's volume is not available yet: its claim does not exist, the claim is not bound, or kubelet "
        "cannot mount the volume.",
        "Run `kubectl describe pvc <claim>` for the checkpoint's claim. Usually the storage class does not exist, has "
        "no provisioner, or does not support the access mode. The operator starts the driver automatically when the "
        "volume is available.",
    ),
    Reason.CHECKPOINT_LOST: Explanation(
        "The checkpoint's volume or claim is gone, the claim is being deleted, or a shared claim was deleted and recreated.",
        "Restore the volume from a backup. To start with an empty checkpoint, and accept duplicates of what was "
        "processed before, delete the claim and the DedupJob and apply the DedupJob again.",
    ),
    Reason.CHECKPOINT_TAKEN: Explanation(
        "The folder that spec.checkpoint.existing names holds the checkpoint of another DedupJob, which may be "
        "deleted by now. The operator starts no driver on that folder.",
        "Create a new DedupJob with another spec.checkpoint.existing.subPath. If nobody needs the other job and its "
        "keys, delete the folder and the ConfigMap `checkpoint-…` that has the other job's name in its label "
        "streamdedup.dev/job.",
    ),
    Reason.RECLAIM_POLICY_REFUSED: Explanation(
        "spec.checkpoint.reclaimPolicy has changed, but the API server does not let the operator change the owner of the "
        "checkpoint's claim. The claim keeps the previous policy. If that policy is Delete, the claim and its keys are "
        "deleted together with the DedupJob. The driver is not affected.",
        "Do not delete the DedupJob if you need its keys. If the API server uses the admission plugin "
        "OwnerReferencesPermissionEnforcement, as OpenShift does, set rbac.changeClaimOwner=true in the values of the "
        "Helm chart. If the API server names another cause, remove that cause or set spec.checkpoint.reclaimPolicy back. "
        "The operator retries automatically.",
    ),
    Reason.UNSCHEDULABLE: Explanation(
        "The scheduler finds no node for the driver's pod.",
        "The scheduler says what is missing. Add resources to the cluster or free some, or lower spec.driver.resources.requests.",
    ),
    Reason.IMAGE_UNAVAILABLE: Explanation(
        "The node cannot pull the job image.",
        "Check job.image and job.imagePullSecrets in the values of the Helm chart, and check that the node can reach "
        "the registry. kubelet retries the pull automatically.",
    ),
    Reason.POD_REJECTED: Explanation(
        "The API server refuses the driver's pod because of a quota, a limit range, a policy or a webhook, or kubelet "
        "cannot start its container.",
        "Change what the API server or kubelet names in this message. Kubernetes retries automatically.",
    ),
    Reason.SOURCE_UNAVAILABLE: Explanation(
        "No broker of spec.source.bootstrapServers answers the driver.",
        "Check spec.source.bootstrapServers. The message says what happens at each address: the connection is refused, the "
        "host name is unknown, the connection is closed (as by a listener that expects TLS or SASL), or there is no answer (for "
        "example because of a network policy). The driver retries automatically.",
    ),
    Reason.SOURCE_TOPIC_MISSING: Explanation(
        "The topic that spec.source.topic names does not exist.",
        "If you have just edited spec.source.bootstrapServers, check the address first. Otherwise create the topic, or correct "
        "spec.source.topic. The driver retries automatically.",
    ),
    Reason.SINK_TOPIC_MISSING: Explanation(
        "The topic that spec.sink.kafka.topic names does not exist.",
        "Create the topic, or correct spec.sink.kafka.topic. The driver retries automatically.",
    ),
    Reason.DEAD_LETTER_TOPIC_MISSING: Explanation(
        "The topic that spec.deadLetter.topic names does not exist.",
        "Create the topic, or correct spec.deadLetter.topic. The driver retries automatically.",
    ),
    Reason.INVALID_RECORD: Explanation(
        "A record has no readable payload, key or event time, and spec.onInvalid is Fail. The message names the "
        "record's partition and offset and what is wrong with the record; docs/records.md explains each fault. With "
        "delivery ExactlyOnce nothing of the batch was written.",
        "Read the record. If most records of this topic are like it, correct spec.format, spec.key or spec.eventTime; "
        "if keys are stored already, do so in a new DedupJob (docs/operations.md, Replace a job). If the record is an "
        "exception, set spec.onInvalid to DeadLetter, which writes such records to spec.deadLetter.topic, or to Drop, which "
        "only counts them. If the record was deleted in the meantime, increase spec.restartNonce.",
    ),
    Reason.SOURCE_TOPIC_REPLACED: Explanation(
        "The topic that spec.source.topic names was deleted and recreated. The offsets in the checkpoint belong to the old topic.",
        "If the records that the job had not read from the old topic may be skipped, set spec.source.onDataLoss to "
        "Continue: the job then continues at the beginning of the new topic and keeps its stored keys. Otherwise "
        "restore the old topic and increase spec.restartNonce.",
    ),
    Reason.SOURCE_CLUSTER_CHANGED: Explanation(
        "The brokers of spec.source.bootstrapServers do not hold the topic from which the job has read: they belong to "
        "another Kafka cluster. Or the brokers give no ids, so the driver cannot be sure that it is the same cluster. The offsets in "
        "the checkpoint mean nothing in another cluster. The driver has read and written nothing.",
        "Set spec.source.bootstrapServers to brokers of the previous cluster. If the address is right and led to another cluster "
        "for a while, increase spec.restartNonce. To read from the other cluster, create a new "
        "DedupJob under another name: docs/operations.md, Replace a job.",
    ),
    Reason.SOURCE_DATA_LOST: Explanation(
        "The source topic no longer holds records that the job has not read: the topic's retention, or a deletion of "
        "records, removed them.",
        "Increase the retention of the topic. To skip the lost records, set spec.source.onDataLoss to Continue: the "
        "driver then counts them in status.progress.lost and logs their partitions and offset ranges.",
    ),
    Reason.SINK_UNAVAILABLE: Explanation(
        "The brokers answer, but they did not acknowledge the records that the driver writes. Usually a partition of the output "
        "topic has no leader, or fewer in-sync replicas than min.insync.replicas. No record is lost.",
        "Start the missing brokers, or lower min.insync.replicas of the topic that the message names. The driver repeats the "
        "batch automatically.",
    ),
    Reason.TRANSACTIONS_UNAVAILABLE: Explanation(
        "The brokers answer, but they cannot run the transaction that delivery ExactlyOnce needs. Usually the topic "
        "__transaction_state cannot be created, because transaction.state.log.replication.factor of the brokers (3 by default) "
        "is larger than the number of brokers. No record is lost.",
        "Set transaction.state.log.replication.factor and transaction.state.log.min.isr of the brokers to at most the number of "
        "brokers, 1 for a single broker, and restart the brokers. Or start more brokers. The driver retries automatically.",
    ),
    Reason.SINK_REFUSED: Explanation(
        "The brokers refuse the records that the driver writes. Usually a record is larger than max.message.bytes of "
        "the output topic, or transaction.max.timeout.ms of the brokers is below 15 minutes. The batch is not "
        "written, and no record is lost. The message names the topic, the setting and, with delivery ExactlyOnce, the source "
        "record and its size.",
        "Change the topic or broker setting that the message names. The driver retries automatically, with growing pauses.",
    ),
    Reason.SINK_PROGRESS_LOST: Explanation(
        "The marker in the progress topic says up to which batch the output is written. The marker is missing or does "
        "not fit the checkpoint: the topic or its records were deleted, or the checkpoint was restored from an older "
        "copy.",
        "Restore the progress topic or the checkpoint, then increase spec.restartNonce. The driver does not continue "
        "without the marker, because it could lose records or write them twice. To accept duplicates of what the "
        "output has beyond the checkpoint, set spec.sink.kafka.delivery to AtLeastOnce, wait for a committed batch, "
        "and set the field back.",
    ),
    Reason.CONSUMER_GROUP_TAKEN: Explanation(
        "The consumer group that spec.source.consumerGroup names belongs to another application: it has members, or offsets on "
        "the source topic that this job has not written. The driver copies its position to the group, which would move that "
        "application to another place. It has read and written nothing.",
        "Choose another spec.source.consumerGroup, or remove the field. To take the group over, stop the other application and "
        "run `kafka-consumer-groups.sh --bootstrap-server <brokers> --delete-offsets --group <group> --topic <topic>`. The "
        "driver retries automatically.",
    ),
    Reason.AUTHORIZATION_FAILED: Explanation(
        "The brokers deny access to the driver: its credentials are wrong, or it lacks a right on a topic, a consumer "
        "group or a transactional id.",
        "Grant the right that the message names; docs/operations.md lists the rights that a job needs. The driver "
        "retries automatically, with growing pauses.",
    ),
    Reason.NO_PROGRESS: Explanation(
        "No batch has committed for a long time although records are waiting.",
        "Read the driver's log with `kubectl logs -l streamdedup.dev/job=<name> --tail=-1`, and compare the metric "
        "dedup_batch_duration_seconds with its usual values. kubelet restarts the driver automatically when the "
        "driver's health check fails.",
    ),
    Reason.DRIVER_FAILED: Explanation(
        "The driver ended with an error. kubelet restarts it automatically, with growing pauses.",
        "The message is the driver's last one. Read the log before it with "
        "`kubectl logs --previous --tail=-1 -l streamdedup.dev/job=<name>`.",
    ),
    Reason.OUT_OF_MEMORY: Explanation(
        "The driver needed more memory than its limit allows: the kernel killed the driver, or the heap of the JVM was full.",
        "Increase spec.driver.resources.limits.memory, or lower spec.source.maxOffsetsPerTrigger. The next driver reads fewer records "
        "in a batch by itself: docs/batch-size.md.",
    ),
    Reason.CONFIGURATION_REFUSED: Explanation(
        "The driver cannot work with its settings. The operator does not start it again until they change.",
        "Correct the field that the message names.",
    ),
    Reason.CHECKPOINT_NOT_WRITABLE: Explanation(
        "The driver cannot write to the checkpoint's volume: the volume is full or read-only, or the driver's user "
        "(10001) may not write to it.",
        "If the volume is full, increase spec.checkpoint.claim.size, or enlarge your own claim. With "
        "spec.checkpoint.existing.fsGroup: Leave, create the folder and give it to user 10001. Otherwise correct the permissions "
        "or the mount of the volume. kubelet restarts the driver automatically.",
    ),
    Reason.CHECKPOINT_DAMAGED: Explanation(
        "A file of the checkpoint is missing, empty or truncated, and the driver cannot rebuild its content from the other files.",
        "Restore the volume from a backup, then increase spec.restartNonce. To start with an empty checkpoint, and "
        "accept duplicates of what was processed before, delete the DedupJob and its claim and apply the DedupJob "
        "again.",
    ),
    Reason.CHECKPOINT_LOCKED: Explanation(
        "Another driver process has the lock of the checkpoint: the process of a pod that was deleted by force, or a "
        "pod that was created by hand.",
        "Wait until the other process ends; the new driver retries automatically. If the other process does not end, "
        "find it on the node where the old pod ran, and end it.",
    ),
    Reason.FENCED: Explanation(
        "A newer driver has taken over the checkpoint or the transactional id while this driver was alive, or a batch "
        "took longer than the 15 minutes that its transaction may last. This driver ended without writing.",
        "If it happened once, after a node or a process was frozen, no action is needed. If it happens again after 15 "
        "minutes each time, a batch is too large: the next driver halves it by itself (docs/batch-size.md), and you can lower "
        "spec.source.maxOffsetsPerTrigger. Otherwise two drivers share a checkpoint: find the pod that was created by hand, and "
        "delete it.",
    ),
    Reason.GRACE_PERIOD_EXCEEDED: Explanation(
        "A batch took longer than the termination grace period of the pod, so kubelet killed the driver during the "
        "batch. With delivery ExactlyOnce the next driver repeats the batch, and no record is lost or written twice. "
        "With AtLeastOnce a part of the batch may be written twice.",
        "Lower spec.source.maxOffsetsPerTrigger, or increase spec.driver.resources.limits.cpu, so that a batch ends "
        "within the grace period. The next driver halves the batch by itself: docs/batch-size.md.",
    ),
    Reason.BATCH_LIMIT_REDUCED: Explanation(
        "The driver has died in a batch, or a batch took too long. So the next batches read fewer records: half as many after "
        "each failure, and twice as many after ten batches, up to spec.source.maxOffsetsPerTrigger.",
        "If it happens once, no action is needed. If it happens again, increase spec.driver.resources.limits.memory, or lower "
        "spec.source.maxOffsetsPerTrigger: docs/batch-size.md.",
    ),
    Reason.EVENT_TIMES_IMPLAUSIBLE: Explanation(
        "At least half of the event times of the last hundred records are in the first weeks of 1970, or would be times only in "
        "another unit than spec.eventTime.format says. A wrong unit makes the watermark wrong: seconds that are read as "
        "milliseconds turn 10 minutes into 7 days, so the driver removes events although they are not duplicates, and its state "
        "grows.",
        "Compare a record with spec.eventTime.format: EpochSeconds has 10 digits today, EpochMillis 13, EpochMicros 16 and "
        "EpochNanos 19. If the times are right, no action is needed. Otherwise suspend the job. If status.checkpoint.keysStored "
        "is not true, correct the field. If it is true, create a new DedupJob: docs/operations.md, Replace a job.",
    ),
    Reason.KAFKA_TIMESTAMPS_IMPLAUSIBLE: Explanation(
        "The Kafka timestamps of at least half of the last hundred records are before the year 2000 or after 3000. With an event "
        "time from the record, the driver ignores such Kafka timestamps. With spec.eventTime.from: KafkaTimestamp they are the event "
        "times. Kafka's own retention and tools misread them in any case.",
        "Correct the producer: a Kafka timestamp is a number of milliseconds. A producer that sets none gets the present time.",
    ),
    Reason.SOURCE_TRANSACTION_OPEN: Explanation(
        "A transaction has been open in the source topic for more than two minutes. The driver reads only committed records, so it "
        "reads nothing of that partition after the first record of the transaction. status.progress.openTransactionRecords says "
        "how many records wait. The driver works, and continues by itself when the transaction ends.",
        "Find the application that writes to the topic with transactions and hangs or has ended, and restart it. The message names "
        "partition and offset and the commands of kafka-transactions.sh; docs/open-transactions.md explains them. If the producer "
        "keeps transactions open for minutes on purpose, as Flink does between two checkpoints, no action is needed.",
    ),
    Reason.WORKLOAD_CHANGED: Explanation(
        "Something changes the StatefulSet or CronJob of the driver again after the operator has restored it, for example "
        "a policy controller or an autoscaler. The operator restores it with growing pauses, up to an hour. The driver is "
        "not affected, unless the change stops it.",
        "Exclude objects with the label app.kubernetes.io/managed-by=dedup-operator from what the field manager in the event changes.",
    ),
    Reason.RESTART_IGNORED: Explanation(
        "Somebody used kubectl rollout restart on the driver's StatefulSet, and the operator starts no driver now.",
        "Read the condition Ready, which says why no driver is started. To start the driver after a permanent failure, "
        "increase spec.restartNonce.",
    ),
    Reason.CHECKPOINT_BOUND: Explanation("The claim of the checkpoint is bound to a volume.", "No action is needed."),
    Reason.NOT_STARTED: Explanation("No driver is running.", "Read the condition Ready, which says why."),
    Reason.PROGRESS_RECENT: Explanation("The last batch committed recently, or no records are waiting.", "No action is needed."),
}
