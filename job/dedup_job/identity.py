"""Which job a checkpoint belongs to: the settings that its first batch was planned with, beside Spark's own files.

The operator blocks edits that do not fit a checkpoint, but it can be away, and a volume can be restored under another job.
The driver therefore looks for itself before it reads a single record.
"""

from __future__ import annotations

from pydantic import ValidationError

from dedup_api.changes import list_state_changes
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint import Checkpoint, write_durably
from dedup_job.errors import JobError


def check_identity(checkpoint: Checkpoint, config: JobConfig) -> bool:
    """Whether the checkpoint has been begun; JobError where it was begun with settings that its keys depend on."""
    try:
        begun_with = JobConfig.model_validate_json(checkpoint.identity_file.read_bytes())
    except FileNotFoundError:
        if any((checkpoint.spark / "offsets").glob("[0-9]*")):
            message = f"the checkpoint holds batches, and {checkpoint.identity_file.name}, which says of which job, is missing: restore it"
            raise JobError(ExitCode.CONFIGURATION, message) from None
        return False
    except (OSError, ValidationError) as error:
        raise JobError(ExitCode.INTERNAL, f"{checkpoint.identity_file} cannot be read: {error}") from error
    fields = list_state_changes(begun_with, config)
    if fields:
        message = f"the checkpoint was made with another {', '.join(fields)}: take the edit back, or make a new DedupJob under another name"
        raise JobError(ExitCode.CONFIGURATION, message)
    return True


def write_identity(checkpoint: Checkpoint, config: JobConfig) -> None:
    """Durable before the first batch is planned: from then on the keys belong to these settings."""
    try:
        write_durably(checkpoint.identity_file, config.model_dump_json(by_alias=True, exclude_none=True).encode())
    except OSError as error:
        raise JobError(ExitCode.CHECKPOINT_NOT_WRITABLE, f"cannot write to the checkpoint volume: {error}") from error
