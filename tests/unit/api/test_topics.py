"""All topics of a job must be different, also those whose names are a default."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_api.job_config import build_job_config
from dedup_api.spec import DedupJobSpec
from dedup_api.topics import build_topic_rules
from dedup_job.driver_config import validate_config
from dedup_job.errors import JobError
from dedup_operator.domain.validate import Invalid, ValidJob, validate

SPEC: dict[str, Any] = {
    "source": {"bootstrapServers": "k:9092", "topic": "events"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "at"},
    "watermark": "10m",
}
PROGRESS = "dedup.shop.orders-progress"
BECAUSE = "because each kind of record needs a topic of its own"


@pytest.mark.parametrize(
    ("source", "sink", "dead", "prefix", "problem"),
    [
        ("events", "out", "dead", None, None),
        ("events", "events", "dead", None, "spec.sink.kafka.topic must differ from spec.source.topic"),
        ("events", "out", "events", None, "spec.deadLetter.topic must differ from spec.source.topic"),
        ("events", "out", "out", None, "spec.deadLetter.topic must differ from spec.sink.kafka.topic"),
        (PROGRESS, "out", "dead", None, "must differ from spec.source.topic"),
        ("events", PROGRESS, "dead", None, f"must differ from spec.sink.kafka.topic, {BECAUSE}: choose another name (both are {PROGRESS})"),
        ("events", "out", PROGRESS, None, "must differ from spec.deadLetter.topic"),
        ("events", PROGRESS, "dead", "other", None),
        ("events", "other-progress", "dead", "other", "must differ from spec.sink.kafka.topic"),
    ],
)
def test_operator_and_driver_compare_the_topics_of_all_roles(
    source: str, sink: str, dead: str, prefix: str | None, problem: str | None
) -> None:
    kafka = {"topic": sink, **({"transactionalIdPrefix": prefix} if prefix else {})}
    spec = {**SPEC, "source": {**SPEC["source"], "topic": source}, "sink": {"kafka": kafka}, "deadLetter": {"topic": dead}}
    found = validate({"metadata": {"namespace": "shop", "name": "orders", "uid": "1", "generation": 1}, "spec": spec})
    config = build_job_config("shop", "orders", DedupJobSpec.model_validate(spec))
    if problem is None:
        assert isinstance(found, ValidJob)
        validate_config(config)
        return
    assert isinstance(found, Invalid) and problem in found.message
    with pytest.raises(JobError) as caught:
        validate_config(config)
    assert problem in caught.value.message


def test_the_crd_has_a_rule_for_each_two_roles() -> None:
    assert len(build_topic_rules()) == 6
