"""Which fields of the payload are read, and that they can be: a path below another could never be a value."""

from __future__ import annotations

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.errors import JobError


def build_paths(config: JobConfig) -> dict[str, str]:
    """Path in the payload -> the spec's field that asks for it."""
    paths = {path: f"spec.key.fields[{index}]" for index, path in enumerate(config.key.fields or [])}
    return {config.event_time.field: "spec.eventTime.field", **paths} if config.event_time.field else paths


def validate_paths(paths: dict[str, str]) -> None:
    """From path -> the spec's field that names it; JobError where one lies above or below another, or has an empty part."""
    for path, field in paths.items():
        if not all(path.split(".")):
            raise JobError(ExitCode.CONFIGURATION, f"{field}: the path {path!r} has an empty part")
        if any(other.startswith(f"{path}.") or path.startswith(f"{other}.") for other in paths):
            message = (
                f"{field}: the path {path} lies above or below another field that is read; a field cannot be a value and an object at once"
            )
            raise JobError(ExitCode.CONFIGURATION, message)
