"""`trigger.availableNow`: a run takes what the topic holds when it begins, ends, and says what it has done."""

from __future__ import annotations

from collections.abc import Callable

from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from kafka.broker import Broker, use_topics
from kafka.driver import Driver, build_config
from kafka.test_driver import build_event, build_plan, compare

Start = Callable[[JobConfig | str], Driver]


def test_runs_end_by_themselves_and_leave_nothing_out(broker: Broker, start_driver: Start) -> None:
    plan = build_plan(events=30_000, duplicates=10_000, seed=11)
    with use_topics(broker, 2, 1) as (source, sink):
        broker.send(source, plan[:30_000])
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 7_000}
        config = build_config(broker.bootstrap, source, sink, source=settings, availableNow=True)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: (status.progress.batch or 0) >= 1 and status.batch_running_since is not None)
            driver.kill()
        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.committed_in_this_run)
            assert driver.stop() == STOPPED_EARLY, "a Job whose pod is evicted is not done"
            assert not driver.termination_log.exists()
        with start_driver(config) as driver:
            assert driver.wait_for_end() == ExitCode.DONE
            first = driver.read_termination_message()
        broker.send(source, plan[30_000:])
        with start_driver(config) as driver:
            assert driver.wait_for_end() == ExitCode.DONE
            second = driver.read_termination_message()
        with start_driver(config) as driver:  # nothing is left to do
            assert driver.wait_for_end() == ExitCode.DONE
            third = driver.read_termination_message()
        out = broker.read_all(sink)

    assert first.reason is Reason.COMPLETED and first.status and second.status and third.status
    assert (first.status.progress.rows_in, first.status.progress.lag_records) == (30_000, 0)
    progress = second.status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates, progress.late) == (40_000, 30_000, 10_000, 0), progress
    assert third.status.progress.rows_in == 40_000 and third.status.attempt == 5
    compare(out, {build_event(number) for number in range(30_000)})
