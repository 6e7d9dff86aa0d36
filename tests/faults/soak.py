"""A fault run: a broker, a producer, and drivers that get the faults of the schedule one after the other; then the
checks."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Message, TopicPartition

from dedup_api.exits import ExitCode, find_meaning
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.spec import Delivery
from faults.arrivals import ArrivalJob
from faults.commits import Commits, Outage, build_layout, list_recoveries
from faults.dead_letter_check import check_dead_letters
from faults.feed import Feeder
from faults.holds import HoldChecker, Holds
from faults.output_check import check_output, check_totals
from faults.own_broker import OwnBroker, ensure_broker_jars
from faults.plan import FIRST_LATE, WATERMARK, Plan, Record, build_plan
from faults.processes import TRANSACTION_SECONDS, FaultyDriver, Tag
from faults.report import Progress, Report
from faults.schedule import MAX_VISITS, Action, Counts, End, Fault, Point, Target, build_ends, build_schedule, list_points, list_rounds
from kafka.broker import read_messages
from kafka.driver import build_config
from kafka.jars import ensure_class_archive, ensure_connector_jars

SOURCE, SINK, DEAD_LETTERS = "faults-in", "faults-out", "faults-dead"
SINK_PARTITIONS = 3
DEAD_LETTER_PARTITIONS = 2

POLL = 0.1
REPORT_SECONDS = 5.0
NO_PROGRESS_SECONDS = 300.0
"""The run fails after so long without a commit, a new record of the producer, or what it waits for. On an idle
machine that takes ten seconds."""
MAX_ENDS = 10
"""The run fails when so many drivers in a row end before their fault could happen."""
FROZEN_SECONDS = TRANSACTION_SECONDS + 5.0
LOCK_SECONDS = 60.0
SECOND_LOCK_SECONDS = 5.0
"""A second driver waits for the lock for less time than the first one holds it."""
OWN_COMMITS_AFTER = 2.0
"""Seconds. No driver commits so soon after its start."""
REST_FACTOR = 8
"""After the last fault the batches are so many times larger. Before it they are small, so that each fault sees
several."""
FIRST_BATCHES = 2
"""Nothing in these batches is late, because the watermark after the first one counts from the third batch on. They
must be small, so that they end before the late records."""
MAX_BROKER_OUTAGE = 8.0
"""Seconds from the kill of the broker to its next start, at most."""


class SoakFailed(Exception):
    """The run could not continue. That counts as a mistake of the driver, too."""


@dataclass(frozen=True)
class Settings:
    seed: int
    records: int
    counts: Counts
    delivery: Delivery = Delivery.EXACTLY_ONCE
    points: tuple[Point, ...] | None = None
    """The points of the kills; None means all points of the delivery."""
    keep: bool = False
    """Whether to keep the folder of the run."""


@dataclass
class Soak:
    """One run in `folder`."""

    settings: Settings
    folder: Path
    tag: Tag = field(default_factory=Tag)
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        settings = self.settings
        self.plan: Plan = build_plan(settings.seed, settings.records)
        self.schedule = build_schedule(settings.seed, settings.counts, settings.points or list_points(settings.delivery))
        self.ends_of_transactions = build_ends(settings.seed, settings.counts, len(self.schedule))
        self.share = self.plan.records // (len(self.schedule) + 1)
        self.batch = max(100, min(self.share // MAX_VISITS, self.plan.records // FIRST_LATE // FIRST_BATCHES // 2))
        self.progress = Progress(self.plan, len(self.schedule))
        self.outages: list[Outage] = []
        self.kills: list[float] = []
        """The times of the kills after which no driver has started yet."""
        self.done: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.violations: list[str] = []
        self.held_until = 0
        """The end offset of the partition of the holds that have ended."""
        self._printed_at = 0.0

    def run(self) -> Report:
        note(f"seed {self.settings.seed}: {self.plan.records:,} records of {self.plan.uniques:,} events, {len(self.schedule)} faults")
        note(f"maxOffsetsPerTrigger {self.batch:,}; {self.folder}")
        with ExitStack() as stack:
            stack.callback(self.tag.kill_all)
            self.jars = ensure_connector_jars()
            archive = ensure_class_archive(self.jars)
            self.environment = {"DEDUP_CLASS_ARCHIVE": str(archive), "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
            self.broker = stack.enter_context(OwnBroker(self.folder / "broker", ensure_broker_jars(), self.tag.environment))
            self._prepare()
            self.feeder = stack.enter_context(Feeder(self.folder / "feed", self.broker.bootstrap, SOURCE, self.plan, self.tag.environment))
            for index, fault in enumerate(self.schedule):
                end = self.ends_of_transactions.get(index)
                if end is not None:
                    # The event time of the newest record that the plan sends during this fault.
                    self.holds.begin(self.plan.begin + (self.plan.end - self.plan.begin) * (index + 1) / (len(self.schedule) + 1))
                self.feeder.allow(self.share * (index + 1))
                self._inject(fault)
                if end is not None:
                    self._finish_hold(end)
                if index in list_rounds(self.settings.counts, len(self.schedule)):
                    self.arrivals.run_round()
                    self.done["start of a job with Arrival"] += 2
                self.progress.faults = index + 1
            self._finish()
            return self._build_report()

    def _finish_hold(self, end: End) -> None:
        before = self.commits.read_ends().get(self.plan.partitions, 0)
        if before > self.held_until:
            self.violations.append(f"a driver has read {before - self.held_until} offsets behind the start of an open transaction")
        self.holds.finish(end)
        self.done[f"transaction with the end {end}"] += 1
        self.held_until = self._find_end_of_holds()

    def _find_end_of_holds(self) -> int:
        consumer, _ = self.broker.open_reader(SOURCE, "read_committed")
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(SOURCE, self.plan.partitions), timeout=60)[1])
        finally:
            consumer.close()

    def _prepare(self) -> None:
        # The plan's records are years old, and the broker would delete them by default.
        self.broker.create(SOURCE, self.plan.partitions + 1, {"retention.ms": "-1"})
        self.broker.create(SINK, SINK_PARTITIONS, {"retention.ms": "-1"})
        self.broker.create(DEAD_LETTERS, DEAD_LETTER_PARTITIONS, {"retention.ms": "-1"})
        self.config = self._build_config(self.batch)
        self.home = self.folder / "driver"
        self.home.mkdir()
        self.arrivals = ArrivalJob(self.broker, self.folder / "arrivals", self._start)
        self.commits = Commits(build_layout(self.home), SOURCE, self.plan.partitions)
        self.holds = Holds(self.broker.bootstrap, SOURCE, self.plan.partitions)

    def _build_config(self, max_offsets: int, available_now: bool = False) -> JobConfig:
        source = {"bootstrapServers": self.broker.bootstrap, "topic": SOURCE, "maxOffsetsPerTrigger": max_offsets}
        sink = {"kafka": {"topic": SINK, "delivery": self.settings.delivery}}
        dead_letters = {"onInvalid": "DeadLetter", "onLate": "DeadLetter", "deadLetter": {"topic": DEAD_LETTERS}}
        watermark = f"{int(WATERMARK.total_seconds())}s"
        trigger = {"availableNow": True} if available_now else {}
        return build_config(self.broker.bootstrap, SOURCE, SINK, source=source, sink=sink, watermark=watermark, **dead_letters, **trigger)

    def _start(
        self, fault: Fault | None, folder: Path | None = None, lock_seconds: float = LOCK_SECONDS, config: JobConfig | None = None
    ) -> FaultyDriver:
        return FaultyDriver(folder or self.home, config or self.config, self.jars, self.tag, self.environment, fault, lock_seconds)

    def _inject(self, fault: Fault) -> None:
        """Starts drivers until the fault has happened to one. Afterwards no driver runs."""
        self.progress.doing = str(fault)
        for attempt in range(MAX_ENDS):
            # A run that has read everything before its fault is followed by a driver that waits for more.
            self.config = self._build_config(self.batch, fault.available_now and attempt == 0)
            if self.config.available_now:
                self._wait(lambda: self.feeder.read_fed() >= self.feeder.allowed)
            # A driver that stops before it can be killed gets less time in the next attempt.
            tried = replace(fault, fraction=fault.fraction / 2**attempt) if fault.point is Point.STOPPING else fault
            with self._start(tried) as driver:
                self._count_from(driver)
                if self._wait_for_fault(driver):
                    self._carry_out(fault, driver)
                    return
                self._note_end(driver, asked=fault.point is Point.STOPPING)
        raise SoakFailed(f"{MAX_ENDS} drivers ended before this fault could happen: {fault}\n{driver.read_output()}")

    def _count_from(self, driver: FaultyDriver) -> None:
        """Counts commits as this driver's own only some time after its start. Earlier ones may be of the JVM of a
        killed driver."""
        self.outages += [Outage(at, driver.started + OWN_COMMITS_AFTER) for at in self.kills]
        self.kills.clear()

    def _wait_for_fault(self, driver: FaultyDriver) -> bool:
        """False when the driver has ended before the fault."""
        self._wait(lambda: driver.read_mark() is not None or driver.poll() is not None, driver)
        return driver.read_mark() is not None

    def _carry_out(self, fault: Fault, driver: FaultyDriver) -> None:
        at = driver.read_mark() or time.time()
        self.done[str(fault.action)] += 1
        match fault.action:
            case Action.KILL:
                self.done[f"kill {fault.target}"] += 1
                self.done[f"kill at {fault.point}"] += 1
                self.kills.append(at)
                self._wait_for_end(driver, fault)
                return
            case Action.FREEZE:
                self._start_second(driver)
                self._wait(lambda: time.time() > at + FROZEN_SECONDS)
                driver.thaw()
            case Action.BROKER:
                self.broker.kill()
                killed = time.time()
                driver.mark.unlink()
                self._wait(lambda: time.time() > killed + MAX_BROKER_OUTAGE * fault.fraction)
                self.broker.start()
                self._wait(self.broker.answers)
                self.outages.append(Outage(killed, killed))
            case Action.SECOND:
                self._start_second(driver)
        self._stop_after_next_commit(driver)

    def _wait_for_end(self, driver: FaultyDriver, fault: Fault) -> None:
        """A driver whose JVM was killed must end without another signal."""
        self._wait(lambda: driver.poll() is not None, driver)
        if fault.target is Target.JVM:
            self._note_end(driver, asked=fault.point is Point.STOPPING)

    def _start_second(self, first: FaultyDriver) -> None:
        """Starts a second driver on the same checkpoint. It must end with the right exit code."""
        folder = self.folder / f"second-{self.done['second driver']}"
        folder.mkdir()
        (folder / "checkpoint").symlink_to(first.checkpoint)
        self.done["second driver"] += 1
        with self._start(None, folder, SECOND_LOCK_SECONDS) as second:
            self._wait(lambda: second.poll() is not None or first.poll() is not None, second)
            if second.poll() is not None and second.poll() not in (ExitCode.CHECKPOINT_LOCKED, ExitCode.FENCED):
                self.violations.append(f"a second driver on the checkpoint ended with {second.poll()}:\n{second.read_output()[-2000:]}")

    def _stop_after_next_commit(self, driver: FaultyDriver) -> None:
        """After the fault the driver must continue, or end with an error after which a restart helps. Stops it after
        its next commit."""
        moment = time.time()
        self._wait(lambda: self.commits.has_committed_since(moment) or self._is_caught_up() or driver.poll() is not None, driver)
        if driver.poll() is None:
            driver.terminate()
            self._wait(lambda: driver.poll() is not None, driver)
            self._note_end(driver, asked=True)
        else:
            self._note_end(driver, asked=False)

    def _is_caught_up(self) -> bool:
        fed = self.feeder.read_fed()
        return fed >= self.feeder.allowed and self.commits.count_read() >= fed

    def _note_end(self, driver: FaultyDriver, asked: bool) -> None:
        code, reason = driver.poll(), driver.find_reason()
        self.ends["stopped as asked" if code == 0 and asked else f"{code} {reason}"] += 1
        meaning = find_meaning(code, reason) if code is not None else None
        if code == 0 and (asked or reason == Reason.COMPLETED):
            return
        if meaning is None or meaning.permanent:
            raise SoakFailed(f"a driver ended with {code} {reason}:\n{driver.read_output()}")

    def _finish(self) -> None:
        """Lets a healthy driver read the rest: one that is stopped as a pod is stopped or, if the schedule has such
        runs, one with `trigger.availableNow`, which must end by itself."""
        self.feeder.allow(self.plan.records)
        available_now = self.settings.counts.runs > 0
        self.config = self._build_config(self.batch * (REST_FACTOR if self.commits.last >= FIRST_BATCHES - 1 else 1), available_now)
        self.progress.doing = "reading the rest"
        if available_now:
            self._wait(lambda: self.feeder.read_fed() >= self.plan.records)
        for _ in range(MAX_ENDS):
            with self._start(None) as driver:
                self._count_from(driver)
                self._wait(lambda: (self._has_read_all() and not available_now) or driver.poll() is not None, driver)
                if driver.poll() is None:
                    driver.terminate()
                    self._wait(lambda: driver.poll() is not None, driver)
                    self._note_end(driver, asked=True)
                    return
                self._note_end(driver, asked=False)
                if available_now and driver.poll() == ExitCode.DONE:
                    if not self._has_read_all():
                        raise SoakFailed(f"a run with availableNow ended before it had read the rest:\n{driver.read_output()}")
                    return
        raise SoakFailed(f"{MAX_ENDS} drivers ended before they had read the rest:\n{driver.read_output()}")

    def _has_read_all(self) -> bool:
        return self.commits.count_read() >= self.plan.records and self.commits.read_ends().get(self.plan.partitions, 0) >= self.held_until

    def _wait(self, condition: Callable[[], bool], driver: FaultyDriver | None = None) -> None:
        """Waits until the condition holds. Raises SoakFailed when the driver has committed nothing, and the producer
        has sent nothing, for NO_PROGRESS_SECONDS."""
        deadline, last = time.monotonic() + NO_PROGRESS_SECONDS, None
        while not condition():
            self.commits.update()
            self.feeder.check()
            self._print_progress()
            state = (self.commits.last, self.feeder.read_fed())
            if state != last:
                deadline, last = time.monotonic() + NO_PROGRESS_SECONDS, state
            if time.monotonic() > deadline:
                output = "" if driver is None else driver.read_output()
                raise SoakFailed(
                    f"no commit and no new record for {NO_PROGRESS_SECONDS:.0f} s, at the fault: {self.progress.doing}\n{output}"
                )
            time.sleep(POLL)
        self.commits.update()

    def _print_progress(self) -> None:
        if time.monotonic() - self._printed_at > REPORT_SECONDS:
            self._printed_at = time.monotonic()
            totals = self.commits.read_totals()
            note(
                self.progress.describe(
                    time.time() - self.began, self.feeder.read_fed(), self.commits.count_read(), self.commits.last, totals
                )
            )

    def _build_report(self) -> Report:
        note("comparing the output with the plan")
        keeps_timestamps = self.settings.delivery is Delivery.EXACTLY_ONCE
        checker = HoldChecker(self.holds.ends)
        verdict = check_output(self.plan, checker.sort_out(read_output(self.broker, SINK)), keeps_timestamps)
        dead_letters = check_dead_letters(self.plan, read_output(self.broker, DEAD_LETTERS), SOURCE, keeps_timestamps)
        hanging = {topic: count_hanging(self.broker, topic) for topic in (SINK, DEAD_LETTERS)}
        totals = self.commits.read_totals()
        violations = [*self.violations, *check_totals(self.plan, totals, self.holds.extra)]
        violations += [*checker.finish(may_repeat=not keeps_timestamps), *self.arrivals.check()]
        violations += [f"{count} records of {topic} are behind an open transaction" for topic, count in hanging.items() if count]
        return Report(
            seed=self.settings.seed,
            delivery=self.settings.delivery,
            records=self.plan.records,
            events=self.plan.uniques,
            faulty=self.plan.faulty,
            batches=self.commits.last + 1,
            max_offsets=self.batch,
            seconds=time.time() - self.began,
            done=self.done,
            ends=self.ends,
            recoveries=tuple(list_recoveries(self.outages, list(self.commits.times.values()))),
            totals=totals,
            verdict=verdict,
            dead_letters=dead_letters,
            violations=tuple(violations),
        )


def read_output(broker: OwnBroker, topic: str) -> Iterator[Record]:
    """All committed records of the topic, in the order of each partition."""
    consumer, partitions = broker.open_reader(topic, "read_committed")
    try:
        yield from map(build_record, read_messages(consumer, partitions))
    finally:
        consumer.close()


def build_record(message: Message) -> Record:
    headers: Any = message.headers() or ()
    return Record(message.key(), message.value(), tuple(headers), message.timestamp()[1])


def count_hanging(broker: OwnBroker, topic: str) -> int:
    """How many offsets a read-committed consumer cannot reach because a transaction before them is open."""
    left = 0
    consumers = {isolation: broker.open_reader(topic, isolation)[0] for isolation in ("read_committed", "read_uncommitted")}
    try:
        for partition in consumers["read_committed"].assignment():
            ends = {name: consumer.get_watermark_offsets(partition, timeout=60)[1] for name, consumer in consumers.items()}
            left += ends["read_uncommitted"] - ends["read_committed"]
    finally:
        for consumer in consumers.values():
            consumer.close()
    return left


def run_soak(settings: Settings) -> Report:
    folder = Path(tempfile.mkdtemp(prefix="dedup-faults-"))
    try:
        return Soak(settings, folder).run()
    finally:
        if settings.keep:
            note(f"the folder of the run is kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def note(text: str) -> None:
    os.write(sys.stderr.fileno(), f"{text}\n".encode())
