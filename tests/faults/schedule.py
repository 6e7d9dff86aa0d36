"""The schedule of a run: which faults happen, where and in which order. Pure: the same seed gives the same schedule."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from dedup_api.spec import Delivery


class Action(StrEnum):
    KILL = "kill"
    """SIGKILL of the target."""
    FREEZE = "freeze"
    """SIGSTOP of the target for longer than a transaction may last. A second driver starts during that time."""
    BROKER = "broker"
    """SIGKILL of the broker, which starts again some seconds later. The target is unused."""
    SECOND = "second"
    """A second driver on the same checkpoint, beside a healthy one. The target is unused."""


class Target(StrEnum):
    PYTHON = "python"
    JVM = "jvm"
    BOTH = "both"


class Point(StrEnum):
    """Where in a batch the fault happens. Every batch reaches the points in this order."""

    BEFORE_OFFSETS = "before-offsets"
    """Spark is about to rename the offset log's entry to its final name."""
    PLANNED = "planned"
    """Spark has called foreachBatch, and nothing is written yet."""
    AFTER_OFFSETS = "after-offsets"
    """The offset log is on disk, and the transaction has not started."""
    MID_TASK = "mid-task"
    """Tasks are sending rows."""
    IN_STATE_UPLOAD = "in-state-upload"
    """The first state file of the batch has appeared on the volume."""
    IN_TRANSACTION = "in-transaction"
    """All rows are sent, and the marker is not."""
    BEFORE_COMMIT = "before-commit"
    """The marker is sent, and the transaction is not committed."""
    IN_COMMIT = "in-commit"
    """The broker is committing the transaction."""
    AFTER_COMMIT = "after-commit"
    """The rows are in the output, and foreachBatch has not returned."""
    RETURNED = "returned"
    """foreachBatch has returned, and Spark is about to commit."""
    STOPPING = "stopping"
    """The driver got SIGTERM a moment ago."""
    RANDOM = "random"
    """Some seconds after the start of the driver, in any step."""


class End(StrEnum):
    """The end of a transaction of the source topic."""

    COMMIT = "commit"
    ABORT = "abort"


ALL_POINTS = tuple(Point)
_OF_TRANSACTIONS = (Point.AFTER_OFFSETS, Point.IN_TRANSACTION, Point.BEFORE_COMMIT, Point.IN_COMMIT)
WITHOUT_TRANSACTION = tuple(point for point in Point if point not in _OF_TRANSACTIONS)
MAX_VISITS = 4
_FROZEN = (Point.IN_TRANSACTION, Point.MID_TASK, Point.BEFORE_COMMIT, Point.PLANNED)
_IN_BATCH = (Point.PLANNED, Point.MID_TASK, Point.IN_STATE_UPLOAD, Point.IN_TRANSACTION)
"""After a kill here the next driver repeats the batch."""
_NOT_IN_RUNS = (Point.RANDOM, Point.STOPPING)
"""Points that a run with `trigger.availableNow` may not reach, or where it ends as one that was stopped early."""
_WITHOUT_BROKER = (
    Point.MID_TASK,
    Point.AFTER_OFFSETS,
    Point.IN_TRANSACTION,
    Point.BEFORE_COMMIT,
    Point.IN_COMMIT,
    Point.RANDOM,
    Point.AFTER_COMMIT,
)


def list_points(delivery: Delivery) -> tuple[Point, ...]:
    return ALL_POINTS if delivery is Delivery.EXACTLY_ONCE else WITHOUT_TRANSACTION


@dataclass(frozen=True)
class Fault:
    action: Action
    point: Point
    target: Target
    visit: int
    """The fault happens when the driver reaches the point for this time; 1 is the first, which is often in a
    repeated batch."""
    fraction: float
    """From 0 to 1. It chooses the moment after the point, and how long the broker stays dead."""
    available_now: bool = False
    """Whether the driver that gets the fault runs with `trigger.availableNow`."""

    def __str__(self) -> str:
        target = "" if self.action in (Action.BROKER, Action.SECOND) else f" {self.target}"
        run = ", availableNow" if self.available_now else ""
        return f"{self.action}{target} at {self.point}, visit {self.visit}, {self.fraction:.2f}{run}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def parse_fault(text: str) -> Fault:
    found = json.loads(text)
    kinds = {"action": Action(found["action"]), "point": Point(found["point"]), "target": Target(found["target"])}
    return Fault(**{**found, **kinds})


@dataclass(frozen=True)
class Counts:
    """How many faults of each kind."""

    kills: int
    broker_kills: int = 0
    freezes: int = 0
    second_drivers: int = 0
    """Without those that start during a freeze."""
    runs: int = 0
    """So many of the kills, if there are enough, happen to a driver with `trigger.availableNow`."""
    repeats: int = 0
    """So many of the kills, if there are enough, happen a second time in the same batch. They add to `kills`."""
    transactions: int = 0
    """Transactions of the source topic that are open during a fault."""
    arrivals: int = 0
    """Rounds of a second job, with `eventTime.from: Arrival`, each after a fault."""


def build_schedule(seed: int, counts: Counts, points: tuple[Point, ...]) -> list[Fault]:
    """Every point is used before a point is used again, with every target in turn."""
    draw = random.Random(f"faults {seed}")
    frozen = tuple(point for point in _FROZEN if point in points)
    brokerless = tuple(point for point in _WITHOUT_BROKER if point in points)
    faults = [
        *_build(draw, Action.KILL, counts.kills, points),
        *_build(draw, Action.FREEZE, counts.freezes, frozen),
        *_build(draw, Action.BROKER, counts.broker_kills, brokerless),
        *_build(draw, Action.SECOND, counts.second_drivers, (Point.PLANNED, Point.RETURNED)),
    ]
    draw.shuffle(faults)
    return _repeat(draw, _run_now(draw, faults, counts.runs), counts.repeats)


def build_ends(seed: int, counts: Counts, faults: int) -> dict[int, End]:
    """By the number of the fault during which a transaction of the source topic is open: how it ends afterwards."""
    draw = random.Random(f"transactions {seed}")
    places = sorted(draw.sample(range(faults), min(faults, counts.transactions)))
    first = draw.randrange(2)
    return {place: list(End)[(first + number) % 2] for number, place in enumerate(places)}


def list_rounds(counts: Counts, faults: int) -> set[int]:
    """The numbers of the faults after which the second job has a round."""
    rounds = min(faults, counts.arrivals)
    return {(number + 1) * faults // rounds - 1 for number in range(rounds)}


def _run_now(draw: random.Random, faults: list[Fault], count: int) -> list[Fault]:
    able = [place for place, fault in enumerate(faults) if fault.action is Action.KILL and fault.point not in _NOT_IN_RUNS]
    chosen = set(draw.sample(able, min(count, len(able))))
    return [replace(fault, available_now=True) if place in chosen else fault for place, fault in enumerate(faults)]


def _repeat(draw: random.Random, faults: list[Fault], count: int) -> list[Fault]:
    able = [place for place, fault in enumerate(faults) if fault.action is Action.KILL and fault.point in _IN_BATCH]
    chosen = set(draw.sample(able, min(count, len(able))))
    repeated = [[fault, replace(fault, visit=1)] if place in chosen else [fault] for place, fault in enumerate(faults)]
    return [fault for part in repeated for fault in part]


def _build(draw: random.Random, action: Action, count: int, points: tuple[Point, ...]) -> list[Fault]:
    faults: list[Fault] = []
    targets, places = draw.sample(list(Target), len(Target)), draw.sample(points, len(points))
    for number in range(count):
        turn, place = divmod(number, len(places))
        # Mistakes show in repeated batches, so the first visit is twice as likely as another.
        visit = draw.choice((1, 1, *range(2, MAX_VISITS + 1)))
        faults.append(Fault(action, places[place], targets[(turn + place) % len(targets)], visit, draw.random()))
    return faults
