"""Which job a checkpoint belongs to, and what wrote it: kept beside Spark's own files from before the first batch on.

The operator blocks edits that do not fit a checkpoint, but it can be away, and a volume can be restored under another job.
The driver therefore looks for itself before it reads a single record.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from pydantic import ValidationError

from dedup_api.changes import list_state_changes
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.model import ApiModel
from dedup_job.checkpoint.layout import Checkpoint, write_durably
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError


class Identity(ApiModel):
    """`job.json` of a generation."""

    config: JobConfig
    """The settings that the first batch was planned with."""
    topic_id: str | None = None
    """Of the source topic, which tells a topic from another that was made later under its name. None where the brokers give none."""
    spark_version: str
    """Of the driver that wrote to the checkpoint last, such as `4.2.0`."""
    backend: Literal["RocksDB"] = "RocksDB"
    """Of the state store."""


def read_spark_version() -> str:
    """Of the installed package, which is what the JVM will run: known without starting it or importing PySpark."""
    return version("pyspark")


def check_identity(checkpoint: Checkpoint, config: JobConfig, spark_version: str) -> Identity | None:
    """None for a checkpoint that has not begun; JobError where `config` or this Spark does not fit it.

    The topic's id is not judged: what another one means depends on `onDataLoss`.
    """
    identity = _read_identity(checkpoint)
    if identity is None:
        return None
    fields = list_state_changes(identity.config, config)
    if fields:
        message = f"the checkpoint was made with another {', '.join(fields)}: take the edit back, or make a new DedupJob under another name"
        raise JobError(ExitCode.CONFIGURATION, message)
    if _parse_release(identity.spark_version) > _parse_release(spark_version):
        message = (
            f"the checkpoint was written by Spark {identity.spark_version}, and this driver has {spark_version}, which may misread it: "
            "go back to the newer job image"
        )
        raise JobError(ExitCode.CONFIGURATION, message)
    return identity


def _read_identity(checkpoint: Checkpoint) -> Identity | None:
    path = checkpoint.identity_file
    name = path.relative_to(checkpoint.root)
    try:
        return Identity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if any((checkpoint.spark / "offsets").glob("[0-9]*")):
            message = f"{name}, which says of which job the checkpoint is, is missing, and there are batches: restore it"
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, message) from None
        return None
    except ValidationError as error:
        message = f"{name} cannot be understood: {error.errors()[0]['msg']}"
        raise JobError(ExitCode.CHECKPOINT_DAMAGED, message) from error
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error


def _parse_release(version: str) -> tuple[int, ...]:
    """Major and minor: patches of Spark read each other's checkpoints."""
    return tuple(int(part) for part in version.split(".")[:2])


def write_identity(checkpoint: Checkpoint, identity: Identity) -> None:
    """Durable before the first batch is planned: from then on the keys belong to these settings."""
    try:
        write_durably(checkpoint.identity_file, identity.model_dump_json(by_alias=True, exclude_none=True).encode())
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error
