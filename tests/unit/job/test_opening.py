"""Which sink a spec opens."""

from pathlib import Path
from typing import Any

import pytest

from dedup_api.job_config import JobConfig
from dedup_api.spec import Sink
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.report.metrics import Metrics
from dedup_job.sink.console import ConsoleOpening
from dedup_job.sink.kafka_opening import KafkaOpening
from dedup_job.sink.opening import OPENINGS, build_opening
from dedup_job.sink.sink import SinkContext
from unit.job.test_session import DOCUMENT


def test_every_member_of_the_spec_has_an_opening() -> None:
    assert set(OPENINGS) == set(Sink.model_fields), "name the new sink in OPENINGS in job/dedup_job/sink/opening.py"


@pytest.mark.parametrize(("sink", "opening"), [({"console": {}}, ConsoleOpening), ({"kafka": {"topic": "out"}}, KafkaOpening)])
def test_the_member_chooses_the_sink(sink: dict[str, Any], opening: type, tmp_path: Path) -> None:
    config = JobConfig.model_validate({**DOCUMENT, "sink": sink})
    unused: Any = None
    context = SinkContext(
        spark=unused, config=config, layout=CheckpointLayout(tmp_path, 1), attempt=1, has_state=False, brokers=unused, metrics=Metrics()
    )
    assert isinstance(build_opening(context), opening)
