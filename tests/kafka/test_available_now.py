"""`trigger.availableNow`: a run reads what the topic holds at its start, ends, and reports what it has done."""

from __future__ import annotations

from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.reasons import Reason
from kafka.broker import Broker, use_topics
from kafka.driver import StartDriver, build_config
from kafka.events import build_events, build_stream, compare


def test_a_run_ends_when_it_has_read_everything(broker: Broker, start_driver: StartDriver, start_in_shared_jvm: StartDriver) -> None:
    """Also after a run that was killed and one that was stopped early."""
    stream = build_stream(events=30_000, duplicates=10_000, seed=11)
    with use_topics(broker, 2, 1) as (source, sink):
        broker.send(source, stream[:30_000])
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": 7_000}
        config = build_config(broker.bootstrap, source, sink, source=settings, availableNow=True)
        with start_driver(config) as driver:
            driver.wait_until(lambda status: (status.progress.batch or 0) >= 1 and status.batch_running_since is not None)
            driver.kill()
        with start_driver(config) as driver:
            driver.wait_until(lambda status: status.committed_in_this_run)
            assert driver.stop() == STOPPED_EARLY, "a Kubernetes Job whose pod is evicted has not completed"
            stopped = driver.read_termination_message()
            assert stopped.status is None and stopped.checkpoint_has_state is True, "only a completed run leaves a report"
        with start_in_shared_jvm(config) as driver:
            assert driver.wait_for_end() == ExitCode.DONE
            first = driver.read_termination_message()
        broker.send(source, stream[30_000:])
        with start_in_shared_jvm(config) as driver:
            assert driver.wait_for_end() == ExitCode.DONE
            second = driver.read_termination_message()
        with start_in_shared_jvm(config) as driver:  # nothing is left to read
            assert driver.wait_for_end() == ExitCode.DONE
            third = driver.read_termination_message()
        output = broker.read_all(sink)

    assert first.reason == Reason.COMPLETED and first.status and second.status and third.status
    assert (first.status.progress.rows_in, first.status.progress.lag_records) == (30_000, 0)
    progress = second.status.progress
    assert (progress.rows_in, progress.rows_out, progress.duplicates, progress.late) == (40_000, 30_000, 10_000, 0), progress
    assert third.status.progress.rows_in == 40_000 and third.status.attempt == 5
    compare(output, build_events(range(30_000)))
