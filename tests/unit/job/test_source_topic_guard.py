"""What the driver checks about the source topic at its start and around each batch."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_job.checkpoint.lost_records import LostRecordsFile
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.errors import JobError
from dedup_job.kafka.broker_client import OffsetEnd, TopicInfo
from dedup_job.kafka.source_topic_guard import SourceTopicGuard
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State
from dedup_job.sink.marker import Marker
from unit.job.spark_files import Volume
from unit.job.test_session import DOCUMENT

UNAVAILABLE = JobError(ExitCode.UNAVAILABLE, "no broker answers")
OLD, NEW = "old-id", "new-id"


def build_config(on_data_loss: str) -> JobConfig:
    return JobConfig.model_validate({**DOCUMENT, "source": {**DOCUMENT["source"], "onDataLoss": on_data_loss}})


def build_marker(batch: int) -> Marker:
    return Marker(batch=batch, entry="", attempt=1, rows=1)


class Topic:
    """The source topic, as the brokers describe it."""

    def __init__(self) -> None:
        self.id, self.earliest = OLD, {0: 0, 1: 0}
        self.answers = 100
        """How often the brokers answer before they become unavailable."""
        self.exists = True

    def fetch_topic(self, topic: str) -> TopicInfo | None:
        self.answers -= 1
        if self.answers < 0:
            raise UNAVAILABLE
        return TopicInfo(self.id, sorted(self.earliest)) if self.exists else None

    def fetch_offsets(self, topic: str, partitions: list[int], end: OffsetEnd) -> dict[int, int]:
        assert end is OffsetEnd.EARLIEST and partitions == sorted(self.earliest)
        return self.earliest


class Setup:
    """A guard, and everything that it uses."""

    def __init__(self, volume: Volume, on_data_loss: str = "Fail", topic_id: str = OLD) -> None:
        self.topic, self.state, self.metrics, self.volume = Topic(), State(), Metrics(), volume
        self.waited: list[float] = []
        self.guard = SourceTopicGuard(
            brokers=self.topic,
            config=build_config(on_data_loss),
            layout=volume,
            topic_id=topic_id,
            state=self.state,
            metrics=self.metrics,
            wait=self.wait,
            clock=lambda: sum(self.waited),
        )

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    @property
    def lost(self) -> int:
        counted = self.metrics.registry.get_sample_value("dedup_lost_records_total")
        assert LostRecordsFile(self.volume).read().total == self.state.read().lost
        return int(counted or 0)


def catch(call: Callable[[], object]) -> JobError:
    with pytest.raises(JobError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("on_data_loss", ["Fail", "Continue"])
def test_a_topic_that_holds_all_records_passes(volume: Volume, on_data_loss: str) -> None:
    setup = Setup(volume, on_data_loss)
    setup.guard.check_start()
    assert setup.guard.reset_offsets_if_recreated(None) == OLD
    volume.add(1, {0: 20, 1: 5, 2: 7}, committed=False)  # partition 2 was added to the topic
    setup.topic.earliest = {0: 10, 1: 5, 2: 0}
    setup.guard.check_before(1)
    setup.guard.check_after(1)
    assert setup.lost == 0 and not volume.lost_records_file.exists()


def test_lost_records_stop_a_batch_before_it_starts(volume: Volume) -> None:
    setup = Setup(volume)
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup.topic.earliest = {0: 12, 1: 99}
    error = catch(lambda: setup.guard.check_before(1))
    assert (error.code, error.reason) == (ExitCode.SOURCE_DATA_LOST, Reason.SOURCE_DATA_LOST)
    assert "orders no longer holds offsets 10 to 11 of partition 0: up to 2 records" in error.message
    assert setup.lost == 0


def test_the_check_at_the_start_names_the_whole_lost_range(volume: Volume) -> None:
    setup = Setup(volume)
    setup.topic.earliest = {0: 1000, 1: 5}
    assert "offsets 10 to 999 of partition 0: up to 990" in catch(setup.guard.check_start).message


def test_the_range_of_batch_0_starts_where_spark_started(volume: Volume) -> None:
    setup = Setup(volume)
    setup.topic.earliest = {0: 3, 1: 0}
    setup.guard.check_before(0)
    setup.topic.earliest = {0: 4, 1: 0}
    assert "offsets 3 to 3 of partition 0" in catch(lambda: setup.guard.check_before(0)).message


def test_a_new_checkpoint_has_lost_no_records(tmp_path: Path) -> None:
    setup = Setup(Volume(tmp_path, 1))
    setup.topic.earliest = {0: 500}
    setup.guard.check_start()


def test_with_fail_records_that_were_read_in_time_are_not_lost(volume: Volume) -> None:
    setup = Setup(volume)
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup.guard.check_before(1)
    setup.topic.earliest = {0: 15, 1: 5}
    setup.guard.check_after(1)


def test_with_continue_each_lost_record_counts_once(volume: Volume, caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(volume, "Continue")
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup.topic.earliest = {0: 12, 1: 5}
    setup.guard.check_start()
    with caplog.at_level(logging.WARNING):
        setup.guard.check_before(1)
    assert setup.lost == 2
    assert "offsets 10 to 11 of partition 0" in caplog.text
    setup.topic.earliest = {0: 14, 1: 5}  # retention deletes more while the batch runs
    setup.guard.check_after(1)
    assert setup.lost == 4
    again = Setup(volume, "Continue")  # the driver died before the commit
    assert again.state.read().lost == 4
    again.topic.earliest = {0: 15, 1: 5}
    again.guard.check_before(1)
    again.guard.check_after(1)
    assert (again.lost, again.state.read().lost) == (1, 5), "the total includes the lost records of earlier processes"


@pytest.mark.parametrize(("on_data_loss", "reason"), [("Fail", Reason.SOURCE_TOPIC_REPLACED), ("Continue", Reason.SOURCE_TOPIC_MISSING)])
def test_a_recreated_topic_ends_a_running_driver(volume: Volume, on_data_loss: str, reason: Reason) -> None:
    """With Continue the exit code is one after which the operator starts the driver again."""
    setup = Setup(volume, on_data_loss)
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup.topic.id = NEW
    for check in (setup.guard.check_before, setup.guard.check_after):
        error = catch(lambda check=check: check(1))  # type: ignore[misc]
        assert (error.code, error.reason) == (ExitCode.TOPIC_MISSING, reason)
        assert "recreated" in error.message
    assert setup.lost == 0


def test_with_fail_a_recreated_topic_stops_the_start(volume: Volume) -> None:
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup = Setup(volume)
    setup.topic.id = NEW
    setup.guard.commit_delivered_batch(build_marker(1))
    assert catch(setup.guard.check_start).reason == Reason.SOURCE_TOPIC_REPLACED
    assert catch(lambda: setup.guard.reset_offsets_if_recreated(None)).reason == Reason.SOURCE_TOPIC_REPLACED
    assert (CommitLog(volume).read_newest(), OffsetLog(volume).read_newest()) == (0, 1), "a person may restore the old topic"


def test_with_continue_the_start_moves_to_the_recreated_topic(volume: Volume) -> None:
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup = Setup(volume, "Continue")
    setup.topic.id, setup.topic.earliest = NEW, {0: 0}
    setup.guard.check_start()
    setup.guard.commit_delivered_batch(None)
    assert setup.guard.reset_offsets_if_recreated(None) == NEW
    assert setup.lost == 10
    assert OffsetLog(volume).read_end_offsets(1, "orders") == {}
    setup.guard.check_before(1)
    setup.guard.check_after(1)
    assert setup.lost == 10, "the empty batch must not count as lost records"


def test_the_move_keeps_a_batch_that_is_in_the_output(volume: Volume) -> None:
    volume.add(1, {0: 20, 1: 5}, committed=False)
    setup = Setup(volume, "Continue")
    setup.guard.commit_delivered_batch(build_marker(1))
    assert CommitLog(volume).read_newest() == 0, "Spark can read the batch again while the topic is the old one"
    setup.topic.id = NEW
    setup.guard.commit_delivered_batch(build_marker(1))
    assert setup.guard.reset_offsets_if_recreated(build_marker(1)) == NEW
    assert (CommitLog(volume).read_newest(), OffsetLog(volume).read_newest(), setup.lost) == (1, 2, 0)


@pytest.mark.parametrize(("recorded", "found", "after"), [("", NEW, NEW), (OLD, "", OLD), ("", "", "")])
def test_an_unknown_id_is_no_sign_of_a_recreated_topic(volume: Volume, recorded: str, found: str, after: str) -> None:
    setup = Setup(volume, topic_id=recorded)
    setup.topic.id = found
    setup.guard.check_start()
    assert setup.guard.reset_offsets_if_recreated(None) == after
    assert OffsetLog(volume).read_newest() == 0


def test_a_missing_topic_stops_the_driver_without_a_wait(volume: Volume) -> None:
    setup = Setup(volume)
    setup.topic.exists = False
    assert catch(lambda: setup.guard.check_before(0)).reason == Reason.SOURCE_TOPIC_MISSING
    assert setup.waited == []


def test_a_long_outage_of_the_brokers_ends_the_driver(volume: Volume) -> None:
    setup = Setup(volume)
    setup.topic.answers = 0
    assert catch(lambda: setup.guard.check_before(0)).code is ExitCode.UNAVAILABLE
    assert 60 <= sum(setup.waited) <= 80
