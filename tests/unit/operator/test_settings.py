"""The operator's own settings."""

from __future__ import annotations

import pytest

from dedup_operator.domain.manifests import JobImage
from dedup_operator.settings import parse_settings


def test_settings_come_from_flags_and_from_the_environment() -> None:
    environment = {"DEDUP_OPERATOR_JOB_IMAGE": "job:env", "DEDUP_OPERATOR_NAMESPACE": "a, b", "DEDUP_OPERATOR_PORT": "9000"}
    settings = parse_settings([], environment)
    assert (settings.job_image.reference, settings.namespaces, settings.port) == ("job:env", ("a", "b"), 9000)
    flags = ["--job-image", "job:flag", "--job-image-pull-secret", "one", "--job-image-pull-policy", "Never", "--log-format", "json"]
    settings = parse_settings(flags, {})
    assert settings.job_image == JobImage("job:flag", "Never", ("one",)) and settings.namespaces == () and settings.log_format == "json"
    with pytest.raises(SystemExit):
        parse_settings([], {})
