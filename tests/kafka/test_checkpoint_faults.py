"""Faults that only a file system can give: the checkpoint after each system call, as a crash or a power cut leaves it.

A driver is recorded with strace while it processes a few batches. From the recording come copies of the checkpoint, some
thousands, each with the marker that the brokers held at that moment. Each must settle; a sample is given to a real driver.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.file_formats import build_sidecar_path
from dedup_job.checkpoint.last_delivered import NOTHING_DELIVERED
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import parse_end_offsets
from dedup_job.checkpoint.output_file import OutputFile
from dedup_job.checkpoint.recovery import recover_checkpoint
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.errors import JobError
from dedup_job.sink.marker import Marker
from kafka.broker import Broker, Record, use_topics
from kafka.driver import Driver, build_config
from kafka.file_events import Disk, Event, Pool, Tree, build_strace_prefix, list_names, read_events, replay, wait_for_recording, write_tree
from testbed.layout import Layout
from testbed.packages import ensure_system_packages

SPARK = "generation-1/spark"
PARTITIONS = 2
ROWS, EVENTS, PER_BATCH = 1500, 1000, 400
"""Records in each partition of the source; different events among all of them; records in a batch."""
SNAPSHOTS = "-Dspark.sql.streaming.stateStore.maintenanceInterval=1s -Dspark.sql.streaming.stateStore.minDeltasForSnapshot=2"
"""So that a recording of a few batches has some: a driver looks every minute and makes one every ten batches."""
CHANCES = 1
"""Power cuts by chance after each call, besides those that go by a rule."""


@dataclass(frozen=True)
class Copy:
    """A checkpoint as it was found after a crash, and what the output held."""

    name: str
    tree: Tree
    marker: Marker


@dataclass(frozen=True)
class Recording:
    source: str
    config: JobConfig
    events: list[Event]
    whole: Tree
    """Spark's files, each as it was when it had got its name. A driver writes none of them twice."""
    jars: Path

    @property
    def entries(self) -> list[str]:
        """Of the offset log, by batch."""
        found = {
            int(path.rsplit("/", 1)[1]): content for path, content in self.whole.items() if re.fullmatch(rf"{SPARK}/offsets/\d+", path)
        }
        return [found[batch].decode() for batch in range(len(found))]


class RecordedDriver(Driver):
    command_prefix: tuple[str, ...] = ()


def build_record(partition: int, offset: int) -> Record:
    """The first thousand of a partition are events of its own and the others' copies."""
    event = (offset * 7 + partition * 400) % EVENTS
    value = json.dumps({"id": event, "at": "2024-05-06T07:08:09Z"}).encode()
    return Record(str(event % 10).encode(), value)


@pytest.fixture(scope="module")
def recording(broker: Broker, connector_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    ensure_system_packages(Layout.of_this_checkout().log / "strace.log", {"strace": "strace"})
    folder = tmp_path_factory.mktemp("recorded")
    trace = folder / "trace"
    RecordedDriver.command_prefix = build_strace_prefix(trace)
    with use_topics(broker, PARTITIONS, 1) as (source, sink):
        for partition in range(PARTITIONS):
            broker.send(source, [build_record(partition, offset) for offset in range(ROWS)], partition)
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": PER_BATCH}
        config = build_config(broker.bootstrap, source, sink, name=source, source=settings)
        try:
            with faster_snapshots(), RecordedDriver(folder, config, connector_jars) as driver:
                driver.wait_until(lambda status: status.progress.rows_in >= PARTITIONS * ROWS - PER_BATCH, seconds=200)
                assert driver.stop() == ExitCode.DONE, driver.read_output()
            wait_for_recording(trace)
            events = read_events(trace, folder / "checkpoint")
            yield Recording(source, config, events, collect_whole(events), connector_jars)
        finally:
            broker.delete(config.progress_topic)


@contextmanager
def faster_snapshots() -> Iterator[None]:
    before = os.environ["JAVA_TOOL_OPTIONS"]
    os.environ["JAVA_TOOL_OPTIONS"] = f"{before} {SNAPSHOTS}"
    try:
        yield
    finally:
        os.environ["JAVA_TOOL_OPTIONS"] = before


def collect_whole(events: list[Event]) -> Tree:
    disk, whole = Disk(), Tree()
    for event in replay(events, disk):
        path = event.target or event.path
        if path.startswith(SPARK) and path in disk.seen and not path.endswith((".tmp", ".tmp.crc")):
            whole[path] = disk.seen[path].content
    return whole


def list_markers(recording: Recording) -> list[list[int]]:
    """By event: the batches that the marker may stand for once it has happened. While a batch commits, both are possible: the
    transaction ends after the last partition has stored its state, and before the batch's commit is begun."""
    stored: dict[int, set[str]] = {}
    committed, possible = NOTHING_DELIVERED, NOTHING_DELIVERED
    markers: list[list[int]] = []
    for event in recording.events:
        version = re.fullmatch(rf"{SPARK}/state/0/(\d+)/(\d+)\.changelog", event.target)
        if version:
            stored.setdefault(int(version[2]) - 1, set()).add(version[1])
            if len(stored[int(version[2]) - 1]) == PARTITIONS:
                possible = int(version[2]) - 1
        commit = re.fullmatch(rf"{SPARK}/commits/\.(\d+)\..*\.tmp", event.path)
        if commit and event.call == "create":
            committed = int(commit[1])
        markers.append(sorted({committed, max(committed, possible)}))
    return markers


def build_copies(recording: Recording, choice: random.Random, chances: int) -> Iterator[Copy]:
    """Each different one once."""
    disk, known, entries = Disk(), set[int](), recording.entries
    markers = list_markers(recording)
    for number, event in enumerate(replay(recording.events, disk)):
        trees = {"crash": disk.crash()} | {f"power cut, {rule}": disk.cut_power(rule) for rule in ("empty", "half", "names")}
        trees |= {f"power cut by chance {chance}": disk.cut_power(choice) for chance in range(chances)}
        for kind, tree in trees.items():
            for batch in markers[number]:
                key = hash((frozenset((path, content) for path, content in tree.items() if path.startswith(SPARK)), batch))
                if key not in known:
                    known.add(key)
                    marker = Marker(batch=batch, entry="" if batch < 0 else entries[batch], attempt=1, rows=0)
                    yield Copy(f"event {number}, {event}: {kind}, marker {batch}", tree, marker)


@pytest.mark.timeout(1800)
def test_every_copy_settles(recording: Recording, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the disk is not what is watched here
    (tmp_path / "pool").mkdir()
    pool, root = Pool(tmp_path / "pool"), tmp_path / "volume"
    repaired = count = 0
    for copy in build_copies(recording, random.Random(seed), CHANCES):
        pool.write_tree(copy.tree, root)
        checkpoint = CheckpointLayout(root, 1)
        try:
            done = recover_checkpoint(checkpoint, copy.marker)
            check_settled(recording, root, copy.marker)
            assert not done or recover_checkpoint(checkpoint, copy.marker) == [], "settled once is settled"
        except (JobError, AssertionError) as error:
            raise AssertionError(f"{copy.name} (seed {seed}): {error}") from error
        count, repaired = count + 1, repaired + bool(done)
        shutil.rmtree(root)
    print(f"{count} copies, {repaired} of them repaired, seed {seed}")
    assert count > 800 and repaired > 300, "the recording is not what it should be"


def check_settled(recording: Recording, root: Path, marker: Marker) -> None:
    """Told from the recording alone: what the next start reads is whole, and the marker fits what it will do."""
    names = list_names(root)
    logs = {
        log: {int(name.rsplit("/", 1)[1]) for name in names if re.fullmatch(rf"{SPARK}/{log}/\d+", name)} for log in ("offsets", "commits")
    }
    due = max(logs["commits"], default=-1) + 1
    assert marker.batch in (due - 1, due), f"batch {due} is due"
    assert max(logs["offsets"], default=-1) in (due - 1, due)
    is_planned = due in logs["offsets"]
    if marker.batch == due:
        assert is_planned and (root / SPARK / "offsets" / str(due)).read_text() == marker.entry
    entries = [due, due - 1] if is_planned else [due - 1, due - 2]
    needed = {f"{SPARK}/offsets/{batch}" for batch in entries if batch >= 0}
    needed |= {f"{SPARK}/sources/0/0"} if due == 0 and is_planned else set()
    needed |= {f"{SPARK}/commits/{due - 1}"} | list_state_files(root, names, due) if due > 0 else set()
    for name in sorted(needed):
        assert name in names and (root / name).read_bytes() == recording.whole[name], f"{name} is not whole"
        sidecar = str(build_sidecar_path(Path(name)))
        assert sidecar not in names or (root / sidecar).read_bytes() == recording.whole[sidecar], f"{sidecar} is not whole"
    assert due > 0 or not [name for name in names if name.startswith(f"{SPARK}/state/")]
    assert f"{SPARK}/metadata" in names or not logs["offsets"]
    assert not [name for name in names if name.startswith(SPARK) and name.endswith((".tmp", ".tmp.crc"))]


def list_state_files(root: Path, names: set[str], version: int) -> set[str]:
    """What Spark reads for the version: it takes the newest snapshot up to it, and the changelogs after that."""
    state = f"{SPARK}/state/0"
    files = {f"{state}/_metadata/metadata", f"{state}/0/_metadata/schema"}
    for partition in range(PARTITIONS):
        folder = f"{state}/{partition}"
        snapshots = [int(found[1]) for name in names if (found := re.fullmatch(rf"{folder}/(\d+)\.zip", name))]
        snapshot = max((number for number in snapshots if number <= version), default=0)
        files |= {f"{folder}/{number}.changelog" for number in range(snapshot + 1, version + 1)}
        if snapshot:
            files.add(f"{folder}/{snapshot}.zip")
            with zipfile.ZipFile(root / f"{folder}/{snapshot}.zip") as archive:
                listed = json.loads(archive.read("metadata").split(b"\n", 1)[1])["sstFiles"]
            files |= {f"{folder}/SSTs/{file['dfsSstFileName']}" for file in listed}
    return files


@pytest.mark.timeout(1800)
def test_a_driver_goes_on_from_any_copy(recording: Recording, broker: Broker, tmp_path: Path, seed: int) -> None:
    restart_from_some(recording, broker, tmp_path, seed, 2)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_driver_goes_on_from_many_copies(recording: Recording, broker: Broker, tmp_path: Path, seed: int) -> None:
    restart_from_some(recording, broker, tmp_path, seed, 60)


def restart_from_some(recording: Recording, broker: Broker, folder: Path, seed: int, count: int) -> None:
    choice = random.Random(seed)
    begun = [copy for copy in build_copies(recording, choice, CHANCES) if "generation-1/sink.json" in copy.tree]
    for number, copy in enumerate(choice.sample(begun, count)):
        print(f"restart {number}, seed {seed}: {copy.name}")
        restart(recording, broker, folder / str(number), copy)


def restart(recording: Recording, broker: Broker, folder: Path, copy: Copy) -> None:
    """With the output and the progress topic as they were: rows of all batches up to the marker's, and the marker as the newest."""
    write_tree(copy.tree, folder / "checkpoint")
    checkpoint = CheckpointLayout(folder / "checkpoint", 1)
    output = OutputFile(checkpoint).read()
    assert output is not None
    records = [build_record(partition, offset) for partition in range(PARTITIONS) for offset in range(ROWS)]
    with use_topics(broker, 1) as (sink,):
        broker.send(sink, build_output(recording, copy.marker.batch))
        if output.marked:
            broker.send(
                recording.config.progress_topic, [Record(output.name.encode(), copy.marker.model_dump_json(by_alias=True).encode())]
            )
        config = recording.config.model_copy(update={"sink": build_config(broker.bootstrap, recording.source, sink).sink})
        with Driver(folder, config, recording.jars) as driver:
            driver.wait_until(lambda status: read_position(checkpoint, recording.source) == dict.fromkeys(range(PARTITIONS), ROWS))
            assert driver.stop() == ExitCode.DONE, driver.read_output()
            said = driver.read_output()
        out = broker.read_all(sink)
    values = sorted(record.value or b"" for record in out)
    assert values == sorted({record.value or b"" for record in records}), f"{copy.name}\n{said}"


def read_position(checkpoint: CheckpointLayout, topic: str) -> dict[int, int]:
    """{} before the first commit, and while the newest is torn, which the driver has yet to repair."""
    commits = CommitLog(checkpoint)
    last = commits.read_newest()
    try:
        return {} if last is None else commits.read(last, topic).end_offsets
    except (ValueError, JobError):
        return {}


def build_output(recording: Recording, last: int) -> list[Record]:
    """What batches up to this one have written."""
    if last < 0:
        return []
    ends = parse_end_offsets(recording.entries[last], recording.source)
    return list(dict.fromkeys(build_record(partition, offset) for partition, end in ends.items() for offset in range(end)))


@pytest.fixture
def seed() -> int:
    """DEDUP_TEST_SEED repeats a run."""
    return int(os.environ.get("DEDUP_TEST_SEED") or random.SystemRandom().randrange(10**6))
