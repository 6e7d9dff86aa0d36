"""`job.json`: which job a checkpoint belongs to, and which version of Spark wrote it.

The driver writes the file before the first batch.

The operator blocks edits that do not fit a checkpoint. But the operator may not be running, and an administrator may
restore a volume under another job. So the driver checks it as well, before it reads a single record.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from pydantic import ValidationError

from dedup_api.changes import list_state_changes
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.model import ApiModel
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError


class Identity(ApiModel):
    """`job.json` of a checkpoint generation."""

    config: JobConfig
    """The settings with which Spark planned the first batch."""
    topic_id: str | None = None
    """The id of the source topic, which a recreated topic does not keep. None where the brokers know no ids."""
    cluster_id: str | None = None
    """The id of the Kafka cluster. None where the brokers do not tell it, and in a file of version 0.1.0."""
    consumer_group: str | None = None
    """The group to which the last driver that wrote this file copied its position. None in a file of version 0.1.0."""
    spark_version: str
    """The version, such as `4.2.0`, of the driver that last wrote to the checkpoint."""
    backend: Literal["RocksDB"] = "RocksDB"
    """The kind of state store."""

    def move_to(self, config: JobConfig) -> JobConfig:
        """The settings of this checkpoint with the addresses of `config`, whose brokers hold the same topic.

        A driver of version 0.1.0 refuses a checkpoint with another address.
        """
        source = self.config.source.model_copy(update={"bootstrap_servers": config.source.bootstrap_servers})
        return self.config.model_copy(update={"source": source})


def read_spark_version() -> str:
    """The version of the installed package, which the JVM will run. Needs neither a JVM nor the import of PySpark."""
    return version("pyspark")


@dataclass(frozen=True)
class IdentityFile:
    """Reads and writes `job.json`."""

    layout: CheckpointLayout

    def check(self, config: JobConfig, spark_version: str) -> Identity | None:
        """Returns the identity, or None for a new checkpoint. JobError where `config` or this version of Spark does not
        fit it.

        The topic's id is not compared here: what another id means depends on `spec.source.onDataLoss`.
        """
        identity = self.read()
        if identity is None:
            return None
        fields = list_state_changes(identity.config, config)
        if fields:
            names = ", ".join(fields)
            message = f"the checkpoint was created with another {names}: revert the edit, or create a new DedupJob under another name"
            raise JobError(ExitCode.CONFIGURATION, message)
        if _parse_release(identity.spark_version) > _parse_release(spark_version):
            message = (
                f"Spark {identity.spark_version} wrote the checkpoint, and this driver has Spark {spark_version}, which may misread it: "
                "go back to the newer job image"
            )
            raise JobError(ExitCode.CONFIGURATION, message)
        return identity

    def read(self) -> Identity | None:
        name = self.layout.describe(self.layout.identity_file)
        try:
            with translate_volume_errors(self.layout.root):
                return self._read_file(name)
        except ValidationError as error:
            message = f"{name} cannot be understood: {error.errors()[0]['msg']}; restore the file from a backup"
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message) from error

    def _read_file(self, name: str) -> Identity | None:
        try:
            return Identity.model_validate_json(self.layout.identity_file.read_bytes())
        except FileNotFoundError:
            if any(self.layout.offset_log.glob("[0-9]*")):
                message = (
                    f"the file {name} is missing although the checkpoint contains batches. "
                    "It names the job that owns the checkpoint. Restore it"
                )
                raise JobError(ExitCode.CHECKPOINT_DAMAGED, message) from None
            return None

    def write(self, identity: Identity) -> None:
        """Call it before Spark plans the first batch: from then on the keys in the state belong to these settings."""
        with translate_volume_errors(self.layout.root):
            write_durably(self.layout.identity_file, identity.model_dump_json(by_alias=True, exclude_none=True).encode())


def _parse_release(version: str) -> tuple[int, ...]:
    """Major and minor: patch releases of Spark read each other's checkpoints."""
    return tuple(int(part) for part in version.split(".")[:2])
