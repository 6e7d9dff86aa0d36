"""A batch that does not survive is planned smaller, by the user's new limit and by the driver itself."""

from __future__ import annotations

import json
import re

import pytest

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.checkpoint.batch_limit import BatchLimitFile
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import OffsetLog
from kafka.broker import Broker, use_topics
from kafka.driver import Driver, StartDriver, build_config
from kafka.events import build_events, build_stream, compare

EVENTS = 30_000


def kill_in_first_batch(driver: Driver) -> int:
    """Returns how many records the batch would have read."""
    driver.wait_until(lambda status: status.batch_running_since is not None)
    driver.kill()
    layout = CheckpointLayout(driver.checkpoint, 1)
    return sum(OffsetLog(layout).read_end_offsets(0, json.loads((driver.folder / "job.json").read_text())["source"]["topic"]).values())


def list_batch_sizes(driver: Driver) -> list[int]:
    lines = [json.loads(line) for line in driver.output.read_text().splitlines() if '"batch committed"' in line]
    return [line["rowsIn"] for line in lines if line["rowsIn"]]


@pytest.mark.parametrize("delivery", ["ExactlyOnce", "AtLeastOnce"])
def test_a_batch_that_kills_the_driver_gets_smaller(broker: Broker, start_driver: StartDriver, delivery: str) -> None:
    stream = build_stream(events=EVENTS, duplicates=5_000, seed=16)
    with use_topics(broker, 2, 1) as (source, sink):
        broker.send(source, stream)
        sinks = {"kafka": {"topic": sink, "delivery": delivery}}

        def build(limit: int) -> object:
            settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": limit}
            return build_config(broker.bootstrap, source, sink, source=settings, sink=sinks)

        with start_driver(build(100_000)) as driver:  # type: ignore[arg-type]
            assert kill_in_first_batch(driver) == len(stream)
        with start_driver(build(100_000)) as driver:  # type: ignore[arg-type]
            assert kill_in_first_batch(driver) <= len(stream) // 2, "the driver halves the batch that has failed"
        with start_driver(build(2_000)) as driver:  # type: ignore[arg-type]
            status = driver.wait_for_rows(len(stream))
            assert driver.stop() == ExitCode.DONE
            sizes = list_batch_sizes(driver)
        output = broker.read_all(sink)
        limit = BatchLimitFile(CheckpointLayout(driver.checkpoint, 1)).read()
    assert max(sizes) <= 2_000, "the limit that the user has lowered holds for the batch that has failed, too"
    assert limit.offsets is None and status.batch_limit is None
    progress = status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates) == (len(stream), EVENTS, 5_000), progress
    if delivery == "ExactlyOnce":
        compare(output, build_events(range(EVENTS)))
    else:
        assert {record.value for record in output} == {record.value for record in build_events(range(EVENTS))}


def test_the_reduced_limit_is_shown_and_grows_back(broker: Broker, start_driver: StartDriver) -> None:
    stream = build_stream(events=EVENTS, duplicates=0, seed=17)
    with use_topics(broker, 1, 1) as (source, sink):
        broker.send(source, stream)
        config = build_config(broker.bootstrap, source, sink)
        with start_driver(config) as driver:
            kill_in_first_batch(driver)
            layout = CheckpointLayout(driver.checkpoint, 1)
            file = BatchLimitFile(layout)
            file.write(file.read().start(0, 2_000, 100_000).note_batch(99))  # as after more failures: 1,000 records in a batch
            OffsetLog(layout).remove(0)
        with start_driver(config) as driver:
            status = driver.wait_until(lambda status: (status.progress.batch or 0) >= 2)
            warnings = {warning.reason: warning.message for warning in status.warnings}
            driver.wait_for_rows(len(stream))
            assert driver.stop() == ExitCode.DONE
            sizes = list_batch_sizes(driver)
        output = broker.read_all(sink)
    assert status.batch_limit == 1_000
    assert re.search(r"at most 1000 records", warnings[Reason.BATCH_LIMIT_REDUCED])
    assert sizes == [1_000] * 11 + [2_000] * 9 + [1_000], "the limit doubles after ten commits"
    compare(output, build_events(range(EVENTS)))
