"""The checkpoint as a crash or a power cut leaves it after each system call of a driver.

strace records a driver that processes a few batches. From the recording the tests build some thousand copies of the
checkpoint, each with the marker that the brokers held at that moment. The driver's recovery must repair every copy, and
real drivers continue from a sample of them.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
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
from kafka.shared_jvm import DriverHost, SharedJvmDriver
from testbed.layout import Layout
from testbed.packages import ensure_system_packages

SPARK = "generation-1/spark"
PARTITIONS = 2
ROWS, EVENTS, PER_BATCH = 1500, 1000, 400
"""How many records each partition of the source has, how many events they stand for, and how many records a batch
takes."""
SNAPSHOTS = "-Dspark.sql.streaming.stateStore.maintenanceInterval=1s -Dspark.sql.streaming.stateStore.minDeltasForSnapshot=2"
"""By default Spark checks every minute, and makes a snapshot every ten batches. The recording is too short for that."""
KNOWN_FILES = (
    r"metadata",
    r"sources/0/0",
    r"offsets/\d+",
    r"commits/\d+",
    r"state/0/_metadata/metadata",
    r"state/0/0/_metadata/schema",
    r"state/0/\d+/\d+\.(changelog|zip)",
    r"state/0/\d+/SSTs/[^/]+\.sst",
)
"""The files of Spark that recovery checks, restores or removes. Hadoop's checksums lie beside each of them."""
CHANCES = 1
"""How many random power cuts follow each call, besides those that follow a rule."""


@dataclass(frozen=True)
class Copy:
    """A checkpoint after a crash, and the marker in the output at that moment."""

    name: str
    tree: Tree
    marker: Marker


@dataclass(frozen=True)
class Recording:
    source: str
    config: JobConfig
    events: list[Event]
    complete: Tree
    """Spark's files with the content that each had when it got its name. A driver writes none of them twice."""

    @property
    def entries(self) -> list[str]:
        """The entries of the offset log, by batch."""
        found = {
            int(path.rsplit("/", 1)[1]): content for path, content in self.complete.items() if re.fullmatch(rf"{SPARK}/offsets/\d+", path)
        }
        return [found[batch].decode() for batch in range(len(found))]


class RecordedDriver(Driver):
    command_prefix: tuple[str, ...] = ()


def build_record(partition: int, offset: int) -> Record:
    """The two partitions hold copies of the same events."""
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
                driver.wait_until(lambda status: status.progress.rows_in >= PARTITIONS * ROWS - PER_BATCH)
                assert driver.stop() == ExitCode.DONE, driver.read_output()
            wait_for_recording(trace)
            events = read_events(trace, folder / "checkpoint")
            yield Recording(source, config, events, collect_complete_files(events))
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


def collect_complete_files(events: list[Event]) -> Tree:
    disk, complete = Disk(), Tree()
    for event in replay(events, disk):
        path = event.target or event.path
        if path.startswith(SPARK) and path in disk.seen and not path.endswith((".tmp", ".tmp.crc")):
            complete[path] = disk.seen[path].content
    return complete


def list_markers(recording: Recording) -> list[list[int]]:
    """By event: the batches that the marker may name after it.

    Two batches are possible while a batch commits: its transaction ends after the last partition has stored its state,
    and before Spark starts to write the batch's commit.
    """
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
    """All copies that differ from each other."""
    disk, known, entries = Disk(), set[int](), recording.entries
    markers = list_markers(recording)
    for number, event in enumerate(replay(recording.events, disk)):
        trees = {"crash": disk.crash()} | {f"power cut, {rule}": disk.cut_power(rule) for rule in ("empty", "half", "names")}
        trees |= {f"power cut by chance {chance}": disk.cut_power(choice) for chance in range(chances)}
        trees["crash, torn checksum files of Spark"] = add_torn_checksum_files(trees["crash"])
        for kind, tree in trees.items():
            for batch in markers[number]:
                key = hash((frozenset((path, content) for path, content in tree.items() if path.startswith(SPARK)), batch))
                if key not in known:
                    known.add(key)
                    marker = Marker(batch=batch, entry="" if batch < 0 else entries[batch], attempt=1, rows=0)
                    yield Copy(f"event {number}, {event}: {kind}, marker {batch}", tree, marker)


def add_torn_checksum_files(tree: Tree) -> Tree:
    """The recorded driver writes none, because its session switches them off. A volume can still have some."""
    found = [path for path in tree if re.fullmatch(rf"{SPARK}/state/0/\d+/\d+\.(changelog|zip)", path)]
    torn = {f"{path}.crc": b'{"algo'[: number % 7] for number, path in enumerate(found)}
    return tree | torn | {str(build_sidecar_path(Path(path))): b"crc" for path in torn}


@pytest.fixture(scope="module")
def seed() -> int:
    """Of the random power cuts and of the sample. DEDUP_TEST_SEED repeats a run."""
    return int(os.environ.get("DEDUP_TEST_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture(scope="module")
def copies(recording: Recording, seed: int) -> list[Copy]:
    return list(build_copies(recording, random.Random(seed), CHANCES))


def test_recovery_knows_every_kind_of_file(recording: Recording) -> None:
    """An unknown file is one that a power cut can tear without that recovery and these tests notice it."""
    written = {path.removeprefix(f"{SPARK}/") for path in recording.complete}
    expected = {path for path in written for kind in KNOWN_FILES if re.fullmatch(kind, path)}
    expected |= {str(build_sidecar_path(Path(path))) for path in expected}
    assert not written - expected, "recovery must know what to do with these files when they are empty or cut off"
    unused = [kind for kind in KNOWN_FILES if not any(re.fullmatch(kind, path) for path in written)]
    assert not unused, "the recording lacks files of these kinds"


@pytest.mark.timeout(1800)
def test_every_copy_is_recovered(
    recording: Recording, copies: list[Copy], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the test does not depend on the real disk
    (tmp_path / "pool").mkdir()
    pool, root = Pool(tmp_path / "pool"), tmp_path / "volume"
    repaired = 0
    for copy in copies:
        pool.write_tree(copy.tree, root)
        checkpoint = CheckpointLayout(root, 1)
        try:
            repairs = recover_checkpoint(checkpoint, copy.marker)
            check_recovered(recording, root, copy.marker)
            assert not repairs or recover_checkpoint(checkpoint, copy.marker) == [], "a second recovery must find nothing to repair"
        except (JobError, AssertionError) as error:
            raise AssertionError(f"{copy.name} (DEDUP_TEST_SEED={seed} repeats it): {error}") from error
        repaired += bool(repairs)
        shutil.rmtree(root)
    print(f"{len(copies)} copies, {repaired} of them repaired, seed {seed}")
    assert len(copies) > 800 and repaired > 300, "too few copies: the recording lacks calls of the driver"


def check_recovered(recording: Recording, root: Path, marker: Marker) -> None:
    """Checks with the recording alone that the files which the next start reads are complete, and that the marker
    fits the batch that it will run."""
    names = list_names(root)
    logs = {
        log: {int(name.rsplit("/", 1)[1]) for name in names if re.fullmatch(rf"{SPARK}/{log}/\d+", name)} for log in ("offsets", "commits")
    }
    due = max(logs["commits"], default=-1) + 1
    assert marker.batch in (due - 1, due), f"batch {due} is due, and the marker names batch {marker.batch}"
    assert max(logs["offsets"], default=-1) in (due - 1, due)
    is_planned = due in logs["offsets"]
    if marker.batch == due:
        assert is_planned and (root / SPARK / "offsets" / str(due)).read_text() == marker.entry
    entries = [due, due - 1] if is_planned else [due - 1, due - 2]
    needed = {f"{SPARK}/offsets/{batch}" for batch in entries if batch >= 0}
    needed |= {f"{SPARK}/sources/0/0"} if due == 0 and is_planned else set()
    needed |= {f"{SPARK}/commits/{due - 1}"} | list_state_files(root, names, due) if due > 0 else set()
    for name in sorted(needed):
        assert name in names and (root / name).read_bytes() == recording.complete[name], f"{name} is not complete"
        sidecar = str(build_sidecar_path(Path(name)))
        assert sidecar not in names or (root / sidecar).read_bytes() == recording.complete[sidecar], f"{sidecar} is not complete"
    assert due > 0 or not [name for name in names if name.startswith(f"{SPARK}/state/")]
    assert f"{SPARK}/metadata" in names or not logs["offsets"]
    leftovers = (".tmp", ".tmp.crc", ".changelog.crc.crc", ".zip.crc.crc")
    assert not [name for name in names if name.startswith(SPARK) and name.endswith(leftovers)]
    assert not [name for name in names if re.fullmatch(rf"{SPARK}/state/0/\d+/\d+\.(changelog|zip)\.crc", name)]


def list_state_files(root: Path, names: set[str], version: int) -> set[str]:
    """The files that Spark reads for the version: the newest snapshot up to it, and the changelogs behind that
    snapshot."""
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


@dataclass(frozen=True)
class Restart:
    """Starts real drivers on copies of the recorded checkpoint."""

    recording: Recording
    broker: Broker
    host: DriverHost
    jars: Path
    folder: Path

    def run_some(self, copies: Sequence[Copy], seed: int, count: int) -> None:
        started = [copy for copy in copies if "generation-1/sink.json" in copy.tree]
        for number, copy in enumerate(random.Random(seed).sample(started, count)):
            print(f"restart {number}, DEDUP_TEST_SEED={seed} repeats it: {copy.name}")
            self.run(copy, self.folder / str(number))

    def run(self, copy: Copy, folder: Path) -> None:
        """The output holds the records of all batches up to the marker's, and the progress topic holds the marker."""
        write_tree(copy.tree, folder / "checkpoint")
        checkpoint, source = CheckpointLayout(folder / "checkpoint", 1), self.recording.source
        output_file = OutputFile(checkpoint).read()
        assert output_file is not None
        records = [build_record(partition, offset) for partition in range(PARTITIONS) for offset in range(ROWS)]
        with use_topics(self.broker, 1) as (sink,):
            self.broker.send(sink, build_output(self.recording, copy.marker.batch))
            if output_file.marked:
                marker = Record(output_file.name.encode(), copy.marker.model_dump_json(by_alias=True).encode())
                self.broker.send(self.recording.config.progress_topic, [marker])
            config = self.recording.config.model_copy(update={"sink": build_config(self.broker.bootstrap, source, sink).sink})
            with SharedJvmDriver(folder, config, self.jars, self.host) as driver:
                driver.wait_until(lambda status: read_position(checkpoint, source) == dict.fromkeys(range(PARTITIONS), ROWS))
                assert driver.stop() == ExitCode.DONE, driver.read_output()
                log = driver.read_output()
            output = self.broker.read_all(sink)
        values = sorted(record.value or b"" for record in output)
        assert values == sorted({record.value or b"" for record in records}), f"{copy.name}\n{log}"


@pytest.fixture
def restart(recording: Recording, broker: Broker, driver_host: DriverHost, connector_jars: Path, tmp_path: Path) -> Restart:
    return Restart(recording, broker, driver_host, connector_jars, tmp_path)


@pytest.mark.timeout(1800)
def test_a_driver_continues_from_a_copy(restart: Restart, copies: list[Copy], seed: int) -> None:
    restart.run_some(copies, seed, 2)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_driver_continues_from_many_copies(restart: Restart, copies: list[Copy], seed: int) -> None:
    restart.run_some(copies, seed, 60)


def read_position(checkpoint: CheckpointLayout, topic: str) -> dict[int, int]:
    """{} before the first commit, and as long as the newest commit is torn, before the driver has repaired it."""
    commits = CommitLog(checkpoint)
    last = commits.read_newest()
    try:
        return {} if last is None else commits.read(last, topic).end_offsets
    except (ValueError, JobError):
        return {}


def build_output(recording: Recording, last: int) -> list[Record]:
    """The records that the batches up to this one have written."""
    if last < 0:
        return []
    ends = parse_end_offsets(recording.entries[last], recording.source)
    return list(dict.fromkeys(build_record(partition, offset) for partition, end in ends.items() for offset in range(end)))
