"""Options of Spark's Kafka source."""

import pytest

from dedup_job.stream.source import build_source_options
from unit.job.fake_brokers import build_config


@pytest.mark.parametrize(("on_data_loss", "option"), [("Fail", "true"), ("Continue", "false")])
def test_spark_fails_on_data_loss_only_with_fail(on_data_loss: str, option: str) -> None:
    assert build_source_options(build_config(onDataLoss=on_data_loss), 7)["failOnDataLoss"] == option
