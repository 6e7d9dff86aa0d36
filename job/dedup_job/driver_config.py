"""Reads the driver's configuration, `job.json`, and refuses one that the driver cannot run.

The operator has usually refused such a spec before. The driver checks again, because a file can also be written by
hand.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from dedup_api.durations import parse_duration
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.paths import find_path_problem
from dedup_job.errors import JobError


def read_config(path: Path) -> JobConfig:
    """JobError with CONFIGURATION when the file cannot be read or does not fit the model."""
    try:
        return JobConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise JobError(ExitCode.CONFIGURATION, f"the driver cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise JobError(ExitCode.CONFIGURATION, f"{path.name}: {field}: {first['msg']}") from error


def validate_config(config: JobConfig) -> None:
    """Checks the rules that the models do not express. JobError with CONFIGURATION for the first one that is broken."""
    _validate_durations(config)
    _validate_dead_letter_topic(config)
    if (problem := config.sink.find_union_problem()) is not None:
        raise JobError(ExitCode.CONFIGURATION, problem)
    if (problem := find_path_problem(config.key, config.event_time)) is not None:
        raise JobError(ExitCode.CONFIGURATION, problem)


def _validate_durations(config: JobConfig) -> None:
    durations = {
        "spec.watermark": config.watermark,
        "spec.trigger.processingTime": config.processing_time,
        "spec.eventTime.maxFutureSkew": config.event_time.max_future_skew,
    }
    for field, text in durations.items():
        try:
            parse_duration(text)
        except ValueError as error:
            raise JobError(ExitCode.CONFIGURATION, f"{field}: {error}") from error


def _validate_dead_letter_topic(config: JobConfig) -> None:
    if config.wants_dead_letters and config.dead_letter_topic is None:
        message = "spec.deadLetter.topic is missing: spec.onLate, spec.onInvalid or spec.onTombstone is DeadLetter; name the topic"
        raise JobError(ExitCode.CONFIGURATION, message)
    if config.topic_conflict is not None:
        raise JobError(ExitCode.CONFIGURATION, config.topic_conflict)
