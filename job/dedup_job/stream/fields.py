"""Finds the paths of the payload that the driver reads, and refuses paths that cannot both have a value."""

from __future__ import annotations

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.errors import JobError


def build_paths(config: JobConfig) -> dict[str, str]:
    """Path in the payload -> the field of the spec that names it."""
    paths = {path: f"spec.key.fields[{index}]" for index, path in enumerate(config.key.fields or [])}
    return {config.event_time.field: "spec.eventTime.field", **paths} if config.event_time.field else paths


def validate_paths(paths: dict[str, str]) -> None:
    """JobError when a path has an empty part, or when one path is the beginning of another.

    `paths`: path in the payload -> the field of the spec that names it.
    """
    for path, field in paths.items():
        if not all(path.split(".")):
            raise JobError(ExitCode.CONFIGURATION, f"{field}: the path {path!r} has an empty part")
        if any(other.startswith(f"{path}.") or path.startswith(f"{other}.") for other in paths):
            message = (
                f"{field}: the path {path} lies above or below another path that the job reads; "
                "a field cannot be both a value and an object"
            )
            raise JobError(ExitCode.CONFIGURATION, message)
