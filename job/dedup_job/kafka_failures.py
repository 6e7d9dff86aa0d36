"""What becomes of each exception of Kafka's Java client.

The table has one entry for each class of the package org.apache.kafka.common.errors, and for the one class that the
client has outside of it. The chain of exceptions says where the exception was thrown: at the source, the output or the
transaction, see `find_place`. If the chain does not say it, the side in the table counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum, auto

ERRORS_PACKAGE = "org.apache.kafka.common.errors."


class Verdict(StrEnum):
    """The first one that is found in a chain of exceptions counts, in this order."""

    FENCED = auto()
    """A newer producer has the transactional id, or the transaction has taken too long."""
    AUTHORIZATION = auto()
    REFUSED = auto()
    """A new attempt fails in the same way until somebody changes a setting of the topic or of the brokers."""
    TOPIC_MISSING = auto()
    DATA_LOST = auto()
    UNAVAILABLE = auto()
    """A new attempt succeeds when the brokers work again."""
    INTERNAL = auto()
    """The driver never causes it, or it says nothing about the brokers."""


class Side(StrEnum):
    SOURCE = auto()
    OUTPUT = auto()
    TRANSACTION = auto()
    ADMIN = auto()
    """Requests about topics and groups. The brokers of the source answer them."""


@dataclass(frozen=True)
class Failure:
    verdict: Verdict
    side: Side = Side.SOURCE
    """Where the exception is thrown, unless the chain says something else."""
    always: bool = False
    """The exception has this side wherever it is thrown: the sink's own calls can fail because of the coordinator."""


@dataclass(frozen=True)
class Place:
    """Where an exception was thrown, as far as its chain says it."""

    side: Side | None = None
    topic: str = ""
    partition: int | None = None
    """Of the source record. The same for the next field."""
    offset: int | None = None
    size: int | None = None
    """Bytes of the record's key, value and headers in the output."""


def _build_table(*groups: tuple[Failure, str]) -> dict[str, Failure]:
    return {f"{name}Exception": failure for failure, names in groups for name in names.split()}


FAILURES: dict[str, Failure] = {
    "OffsetMetadataTooLarge": Failure(Verdict.INTERNAL, Side.ADMIN),
    **_build_table(
        (Failure(Verdict.FENCED, Side.TRANSACTION, always=True), "ProducerFenced InvalidProducerEpoch FencedInstanceId"),
        (
            Failure(Verdict.AUTHORIZATION),
            "Authentication Authorization ClusterAuthorization DelegationTokenAuthorization DelegationTokenDisabled DelegationTokenExpired "
            "DelegationTokenNotFound DelegationTokenOwnerMismatch GroupAuthorization IllegalSaslState SaslAuthentication "
            "SecurityDisabled SslAuthentication TopicAuthorization UnacceptableCredential UnsupportedByAuthentication "
            "UnsupportedSaslMechanism",
        ),
        (Failure(Verdict.AUTHORIZATION, Side.TRANSACTION), "TransactionalIdAuthorization"),
        (
            Failure(Verdict.REFUSED, Side.OUTPUT),
            "InvalidConfiguration InvalidRecord InvalidRequiredAcks InvalidTimestamp InvalidTopic PolicyViolation "
            "RecordBatchTooLarge RecordTooLarge UnsupportedCompressionType UnsupportedForMessageFormat UnsupportedVersion",
        ),
        (Failure(Verdict.REFUSED, Side.TRANSACTION, always=True), "InvalidTxnTimeout"),
        (Failure(Verdict.TOPIC_MISSING), "InconsistentTopicId UnknownTopicId UnknownTopicOrPartition"),
        (Failure(Verdict.DATA_LOST), "OffsetOutOfRange OffsetMovedToTieredStorage PositionOutOfRange"),
        (
            Failure(Verdict.UNAVAILABLE),
            "BrokerNotAvailable Disconnect EligibleLeadersNotAvailable FencedLeaderEpoch FetchSessionIdNotFound FetchSessionTopicId "
            "InvalidFetchSessionEpoch InvalidMetadata KafkaStorage LeaderNotAvailable ListenerNotFound Network NewLeaderElected "
            "NotLeaderForPartition NotLeaderOrFollower OffsetNotAvailable PreferredLeaderNotAvailable ReplicaNotAvailable Retriable "
            "Timeout UnknownLeaderEpoch UnknownServer UnstableOffsetCommit AuthorizerNotReady",
        ),
        (Failure(Verdict.UNAVAILABLE, Side.ADMIN), "ControllerMoved NotController ThrottlingQuotaExceeded"),
        (
            Failure(Verdict.UNAVAILABLE, Side.OUTPUT),
            "DuplicateSequence NotEnoughReplicas NotEnoughReplicasAfterAppend OutOfOrderSequence UnknownProducerId",
        ),
        (
            Failure(Verdict.UNAVAILABLE, Side.TRANSACTION, always=True),
            "ConcurrentTransactions CoordinatorLoadInProgress CoordinatorNotAvailable InvalidPidMapping InvalidTxnState "
            "NotCoordinator TransactionAbortable TransactionAborted TransactionCoordinatorFenced TransactionalIdNotFound",
        ),
        (
            Failure(Verdict.INTERNAL),
            "Api CorruptRecord IllegalGeneration InconsistentGroupProtocol Interrupt InvalidFetchSize InvalidGroupId InvalidOffset "
            "InvalidRequest InvalidSessionTimeout MemberIdRequired RebalanceInProgress RecordDeserialization Serialization "
            "UnknownMemberId Wakeup",
        ),
        (  # of brokers and controllers, of groups with members, of share groups, of tools: the driver uses none of them
            Failure(Verdict.INTERNAL, Side.ADMIN),
            "BrokerIdNotRegistered DuplicateBrokerRegistration DuplicateResource DuplicateVoter ElectionNotNeeded FeatureUpdateFailed "
            "FencedMemberEpoch FencedStateEpoch GroupIdNotFound GroupMaxSizeReached GroupNotEmpty GroupSubscribedToTopic "
            "InconsistentClusterId InconsistentVoterSet IneligibleReplica InvalidCommitOffsetSize InvalidPartitions "
            "InvalidPrincipalType InvalidRecordState InvalidRegistration InvalidReplicaAssignment InvalidReplicationFactor "
            "InvalidShareSessionEpoch InvalidUpdateVersion InvalidVoterKey LogDirNotFound MismatchedEndpointType "
            "NoReassignmentInProgress OperationNotAttempted PrincipalDeserialization ReassignmentInProgress ResourceNotFound "
            "ShareSessionNotFound SnapshotNotFound StaleBrokerEpoch StaleMemberEpoch TelemetryTooLarge TopicDeletionDisabled "
            "TopicExists UnknownControllerId UnknownSubscriptionId UnreleasedInstanceId UnsupportedAssignor "
            "UnsupportedEndpointType VoterNotFound",
        ),
    ),
}

OUTSIDE_OF_THE_PACKAGE = frozenset({"InvalidRecordException"})
"""Exceptions of brokers that the client has in org.apache.kafka.common."""
_CLASS = re.compile(r"\borg\.apache\.kafka\.common\.(?:errors\.)?(\w+)")
_OTHER_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    # The client throws a plain KafkaException or a ConfigException for these, and Spark an exception of its own.
    (re.compile(r"transaction timeout is larger than the maximum"), "InvalidTxnTimeoutException"),
    (re.compile(r"UNKNOWN_TOPIC_OR_PART|does not host this topic-partition"), "UnknownTopicOrPartitionException"),
    (re.compile(r"KAFKA_DATA_LOSS|OffsetOutOfRangeException"), "OffsetOutOfRangeException"),
    (re.compile(r"No resolvable bootstrap urls"), "DisconnectException"),
    (re.compile(r"Cannot fetch record for offset"), "TimeoutException"),
)
_VERDICTS = list(Verdict)


def find_classes(text: str) -> list[str]:
    """The names of all Kafka exceptions in the text of a chain, those with the strongest verdict first."""
    found = _CLASS.findall(text) + [name for pattern, name in _OTHER_TEXTS if pattern.search(text)]
    known = [name for name in dict.fromkeys(found) if name in FAILURES]
    return sorted(known, key=lambda name: _VERDICTS.index(FAILURES[name].verdict))


_SINK_FAILURE = re.compile(
    r"dev\.streamdedup\.SinkFailure: side=(?P<side>\w+) topic=(?P<topic>\S*)"
    r"(?: partition=(?P<partition>\d+) offset=(?P<offset>\d+))?(?: bytes=(?P<bytes>\d+))?"
)
"""The message of `SinkFailure.java`."""
_OUTPUT_TEXT = re.compile(r"Expiring \d+ record\(s\) for (?P<topic>\S+)-\d+:|Topic (?P<other>\S+) not present in metadata")
"""What only a producer says. Its exceptions have no stack trace."""
_SOURCE_TEXT = re.compile(r"Cannot fetch record for offset|before the position for partition|Failed to get offsets by times")
_SIDES_OF_FRAMES = (
    (
        re.compile(
            r"kafka010\.(KafkaMicroBatchStream|KafkaOffsetReader|KafkaBatchPartitionReader|KafkaSourceRDD|consumer\.)"
            r"|kafka\.clients\.(consumer|admin)\."
        ),
        Side.SOURCE,
    ),
    (
        re.compile(r"kafka010\.(KafkaWriteTask|KafkaRowWriter|KafkaDataWriter|KafkaWriter\b|producer\.)|kafka\.clients\.producer\."),
        Side.OUTPUT,
    ),
)
"""Classes in a stack trace. The driver's own producer says its side itself, in a SinkFailure."""


def find_place(text: str, frames: list[str]) -> Place:
    """`text` of the whole chain; `frames`: for each exception, outermost first, the classes of its stack trace."""
    found = _SINK_FAILURE.search(text)
    if found is not None:
        numbers = {name: None if found[name] is None else int(found[name]) for name in ("partition", "offset", "bytes")}
        side = Side(found["side"]) if found["side"] in set(Side) else None
        return Place(side, found["topic"], numbers["partition"], numbers["offset"], numbers["bytes"])
    output = _OUTPUT_TEXT.search(text)
    if output is not None:
        return Place(Side.OUTPUT, output["topic"] or output["other"])
    if _SOURCE_TEXT.search(text):
        return Place(Side.SOURCE)
    for classes in reversed(frames):  # the innermost exception is the most precise
        for pattern, side in _SIDES_OF_FRAMES:
            if pattern.search(classes):
                return Place(side)
    return Place()


def decide_side(failure: Failure, place: Place) -> Side:
    return failure.side if failure.always or place.side is None else place.side
