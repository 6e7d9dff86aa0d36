"""Many runs of a few seconds. Spark maintains its state once a minute, so the driver has to ask for it."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.stream.session import BATCHES_TO_RETAIN
from kafka.broker import Broker, use_topics
from kafka.driver import StartDriver, build_config
from kafka.events import build_events, build_stream, compare

PER_BATCH = 20
BATCHES = [18, *[5] * 7]
"""Of each run. Spark makes a snapshot every ten batches, and deletes what is ten versions older than the newest one: it
deletes nothing in the first run."""
LIMIT = 3 * BATCHES_TO_RETAIN
"""Spark keeps ten versions and what lies between them and the snapshot before, and deletes several versions at once."""


def test_short_runs_leave_a_bounded_number_of_files(broker: Broker, start_in_shared_jvm: StartDriver, tmp_path: Path) -> None:
    """Also on a volume on which earlier versions of the driver have left changelogs only."""
    stream = build_stream(events=sum(BATCHES) * PER_BATCH, duplicates=0, seed=5)
    spark, sent = tmp_path / "checkpoint/generation-1/spark", 0
    with use_topics(broker, 1, 1) as (source, sink):
        settings = {"bootstrapServers": broker.bootstrap, "topic": source, "maxOffsetsPerTrigger": PER_BATCH}
        config = build_config(broker.bootstrap, source, sink, source=settings, availableNow=True, parallelism=1)
        for number, batches in enumerate(BATCHES):
            broker.send(source, stream[sent : sent + batches * PER_BATCH])
            sent += batches * PER_BATCH
            with start_in_shared_jvm(config) as driver:
                assert driver.wait_for_end() == ExitCode.DONE, driver.read_output()
            if number == 0:
                remove_snapshots(spark)
        output = broker.read_all(sink)
    kinds = count_kinds(spark)
    assert not {kind: count for kind, count in kinds.items() if count > LIMIT}, kinds
    assert kinds["state/N/N/N.zip"] > 0 and not (spark / "state/0/0/1.changelog").exists(), kinds
    compare(output, build_events(range(sent)))


def remove_snapshots(spark: Path) -> None:
    """The changelogs are still enough to build the state."""
    folder = spark / "state/0/0"
    assert {f"{version}.changelog" for version in range(1, BATCHES[0] + 1)} <= {path.name for path in folder.iterdir()}
    for path in [*folder.glob("*.zip"), *folder.glob(".*.zip.crc")]:
        path.unlink()
    shutil.rmtree(folder / "SSTs")


def count_kinds(spark: Path) -> Counter[str]:
    """By kind: how many files there are. The kind is the path with N in place of numbers and ID in place of UUIDs."""
    paths = [str(path.relative_to(spark)) for path in spark.rglob("*") if path.is_file()]
    return Counter(re.sub(r"\d+", "N", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", path)) for path in paths)
