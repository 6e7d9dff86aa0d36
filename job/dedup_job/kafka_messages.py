"""The messages about Kafka's exceptions: what failed, at which side and topic, which setting matters, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_job.kafka_failures import Place, Side


@dataclass(frozen=True)
class JobTopics:
    """The names of a job's topics; empty where unknown."""

    source: str = ""
    output: str = ""
    """The topics that records are written to. A failure of Spark's own writer does not say which of them it was."""

    def describe_source(self) -> str:
        return f"the source topic {self.source}" if self.source else "the source topic"

    def describe_output(self, place: Place) -> str:
        name = place.topic or self.output
        return f"the topic {name}" if name else "the output topic"


NO_TOPICS = JobTopics()
TLS_AS_SIZE = (
    "a Kafka client read the first bytes of a broker's answer as the size of a message, and the JVM has no memory for that size. Usually "
    "the port is a TLS listener. Set spec.source.bootstrapServers to a listener without TLS, and check advertised.listeners of the "
    "brokers"
)

_SETTINGS = {
    "RecordTooLargeException": (
        "the record is larger than max.message.bytes of the topic (message.max.bytes of the brokers)",
        "increase that setting",
    ),
    "RecordBatchTooLargeException": (
        "a batch of records is larger than max.message.bytes or segment.bytes of the topic",
        "increase that setting",
    ),
    "InvalidTopicException": ("the brokers do not accept the topic's name", "correct the name in the spec"),
    "PolicyViolationException": ("a policy of the brokers forbids the request", "change what create.topic.policy.class.name enforces"),
    "InvalidRecordException": (
        "the topic does not accept the record. A topic with cleanup.policy compact accepts no record without a key",
        "set cleanup.policy of the topic to delete, or give every record a key",
    ),
    "InvalidTimestampException": (
        "the record's timestamp is outside of message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic",
        "increase these settings",
    ),
    "InvalidTxnTimeoutException": (
        "transaction.max.timeout.ms of the brokers is below the 15 minutes that the driver needs",
        "increase that setting to 900000 or more",
    ),
    "InvalidConfigurationException": (
        "the brokers report a wrong setting of the topic",
        "correct the setting that the end of this message names",
    ),
    "InvalidRequiredAcksException": ("the brokers do not accept acks=all", "use brokers of Kafka 3.3 or newer"),
    "UnsupportedCompressionTypeException": (
        "the brokers do not accept the compression lz4",
        "set compression.type of the topic to producer or lz4",
    ),
    "UnsupportedVersionException": ("the brokers are too old for the request", "use brokers of Kafka 3.3 or newer"),
    "UnsupportedForMessageFormatException": (
        "log.message.format.version of the topic is too old",
        "set message.format.version of the topic to 0.11 or newer",
    ),
}
"""By the class of the exception: what is wrong, and what to do."""

_TRANSACTION_CAUSES = {
    "TransactionAbortableException": "the brokers asked the driver to abort the transaction",
    "TransactionAbortedException": "the transaction was aborted before all of its records were sent",
    "ConcurrentTransactionsException": "an earlier transaction of the job has not ended yet",
    "InvalidPidMappingException": "the brokers have forgotten the job's transactional id (transactional.id.expiration.ms)",
    "InvalidTxnStateException": "the coordinator and the driver disagree about the state of the transaction",
    "TransactionalIdNotFoundException": "the coordinator does not know the job's transactional id",
}


def describe_record(place: Place, topics: JobTopics) -> str:
    """Which source record a failure belongs to; empty where unknown."""
    size = "" if place.size is None else f"{place.size} bytes"
    if place.offset is None:
        return size and f"the record has {size} in the output"
    of = f" of the topic {topics.source}" if topics.source else ""
    return f"the record at offset {place.offset} of partition {place.partition}{of}" + (f" has {size} in the output" if size else "")


def build_refused(kind: str, place: Place, topics: JobTopics, summary: str) -> str:
    """`kind`: the class of the exception. `summary`: what Kafka says."""
    cause, remedy = _SETTINGS.get(kind, ("the brokers do not accept the request", "change the setting that the end of this message names"))
    record = describe_record(place, topics)
    what = "the transaction" if kind == "InvalidTxnTimeoutException" else f"records for {topics.describe_output(place)}"
    return f"the brokers refuse {what}: {cause}. Remedy: {remedy}. {record and f'In the source, {record}. '}Kafka says: {summary}"


def build_unavailable(kind: str, side: Side, place: Place, topics: JobTopics, summary: str) -> str:
    if side is Side.TRANSACTION:
        return f"{_describe_transaction(kind, place)}. Kafka says: {summary}"
    if side is Side.OUTPUT:
        return f"{_describe_output(kind, place, topics)}. Kafka says: {summary}"
    return (
        f"the brokers did not answer a request about {topics.describe_source()} in time. Check spec.source.bootstrapServers, the brokers, "
        f"and that each partition has a leader. Kafka says: {summary}"
    )


def _describe_output(kind: str, place: Place, topics: JobTopics) -> str:
    topic, replicas = topics.describe_output(place), "start the missing brokers, or lower min.insync.replicas of the topic"
    if kind.startswith("NotEnoughReplicas"):
        return f"a partition of {topic} has fewer in-sync replicas than its setting min.insync.replicas: {replicas}"
    if kind in {"DuplicateSequenceException", "OutOfOrderSequenceException", "UnknownProducerIdException"}:
        return (
            f"the brokers have lost what they know about the driver's producer for {topic}, for example because records were deleted. The "
            "next start uses a new producer. If it happens again, increase retention.ms of the topic and producer.id.expiration.ms "
            "of the brokers"
        )
    return (
        f"the brokers did not acknowledge the records for {topic} in time. Check that each partition of the topic has a leader. If one has "
        f"fewer in-sync replicas than min.insync.replicas, {replicas}"
    )


def _describe_transaction(kind: str, place: Place) -> str:
    if kind in _TRANSACTION_CAUSES:
        return f"{_TRANSACTION_CAUSES[kind]}. The driver restarts and repeats the batch. If it happens again, read the log of the brokers"
    progress = f" (topic {place.topic})" if place.topic else ""
    return (
        f"the transaction coordinator of the brokers did not answer in time{progress}. If the topic __transaction_state does not exist or "
        "lacks replicas, the brokers have transaction.state.log.replication.factor or transaction.state.log.min.isr above the number of "
        "brokers: lower these settings (1 for one broker) and restart the brokers, or start more brokers"
    )
