"""Streams of records in which mistakes would show. A plan describes a stream, and the generator builds its records step
by step.

The module is pure: the same plan gives the same records. Most records have times in 2024, so that the present time
makes no difference to them. Some have timestamps of the present or of 2099.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st

from kafka.model import MICROS, write_time

PARTITIONS = 3
SKEW = 3_600_000
BASE = 1_714_953_600_000
"""Milliseconds: 2024-05-06."""
YEAR_2099 = 4_070_908_800_000
FORMATS = ("Iso8601", "EpochMillis", "EpochSeconds", "EpochMicros", "EpochNanos")


Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Shape:
    """Where in the payload the identifier and the time stand."""

    key_path: str = "id"
    time_path: str = "at"
    before: bytes = b""
    after: bytes = b""
    name: bytes = b'"id"'
    """The name of the identifier, with its quotes."""

    in_headers: bool = False
    """Identifier and time are in the headers `id` and `at`."""

    def apply(self, value: bytes | None) -> tuple[bytes | None, Headers]:
        if self.in_headers:
            return move_to_headers(value)
        return None if value is None else self.before + value.replace(b'"id"', self.name) + self.after, ()


def move_to_headers(value: bytes | None) -> tuple[bytes | None, Headers]:
    """The fields of a JSON object become headers of the same names. Other values have no headers."""
    try:
        document = json.loads(value or b"", parse_float=str, parse_int=str)
    except ValueError:
        return value, ()

    def encode(field: Any) -> bytes | None:
        text = field if isinstance(field, str) else json.dumps(field)
        return None if field is None else text.encode("utf-8", "surrogatepass")

    headers = tuple((name, encode(field)) for name, field in document.items() if name in {"id", "at"})
    return b"{}", (*headers[:1], *headers)  # of several headers with one name the last one counts


FRAME = b"\x00\x00\x00\x01\xf4"
SHAPES = {
    "plain": Shape(),
    "name with a dot": Shape(key_path="['event.id']", name=b'"event.id"'),
    "element of an array": Shape("items[1].id", "items[1].at", b'{"items": [{"id": 0}, ', b"]}"),
    "framed": Shape(before=FRAME),
    "headers": Shape("", "", in_headers=True),
}
ISO_FORMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.replace(".", ","),
    lambda text: text.replace("-", "").replace(":", ""),
    lambda text: text.lower(),
    lambda text: f"{text}[Europe/Berlin]",
)
"""Ways to write one time. An offset counts before a zone."""
EDGES = (-MICROS, -1, 0, 1, MICROS)
"""Microseconds before and after a moment at which the outcome of a record changes."""


class Op(StrEnum):
    """A part of a stream. Its records are sent in steps, and the driver has read each step before the next is sent."""

    EDGES = "edges"
    """Records just before and after the moments at which records become late and keys expire."""
    AHEAD = "ahead"
    """Records whose event time is up to an hour, and more, after their Kafka timestamp."""
    LEAP = "leap"
    """One record whose event time and Kafka timestamp come from a clock that is ahead. The other records follow as
    before."""
    INVALID = "invalid"
    CROWD = "crowd"
    """Records out of order within and across partitions, with copies."""


@dataclass(frozen=True)
class Life:
    """One process of the driver."""

    backlog: int
    """How many records wait for it."""
    most: int
    """How many records a batch may take."""
    ops: tuple[Op, ...]
    killed_after: float | None
    """Seconds from the first record of the next life's backlog to the kill. None: the driver is stopped at that
    moment."""


@dataclass(frozen=True)
class Plan:
    seed: int
    form: str
    delay: int
    """The delay of the watermark in milliseconds, a multiple of 4,000."""
    lives: tuple[Life, ...]
    shape: str
    """One of SHAPES."""
    tombstones_pass: bool
    present: bool
    """Whether the stream ends with records of the present. Only the driver's own clock says that they are not in the
    future."""


@st.composite
def plans(draw: st.DrawFn, lives: int, more: int, backlog: int) -> Plan:
    """Plans with each Op once and up to `more` others, distributed over so many lives. The first life has a backlog
    of at least so many records. The backlog of a later life may fit into its first batch."""
    ops = [*draw(st.permutations(list(Op))), *draw(st.lists(st.sampled_from(list(Op)), max_size=more))]
    cuts = sorted(draw(st.lists(st.integers(0, len(ops)), min_size=lives - 1, max_size=lives - 1)))
    parts = [ops[start:end] for start, end in zip([0, *cuts], [*cuts, len(ops)], strict=True)]
    ends = st.one_of(st.floats(0, 2), st.none())
    return Plan(
        seed=draw(st.integers(0, 1 << 32)),
        form=draw(st.sampled_from(FORMATS)),
        delay=draw(st.sampled_from([8_000, 60_000, 600_000])),
        lives=tuple(
            Life(draw(st.integers(8 if index else backlog, 70)), draw(st.integers(17, 24)), tuple(part), draw(ends))
            for index, part in enumerate(parts)
        ),
        shape=draw(st.sampled_from(sorted(SHAPES))),
        tombstones_pass=draw(st.booleans()),
        present=draw(st.booleans()),
    )


@dataclass(frozen=True)
class Draft:
    """A record before it is sent."""

    partition: int
    stamp: int
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()


Step = list[Draft]


@dataclass
class Generator:
    """Builds the drafts of a plan, one part after the other. Times are microseconds. `clock` is the newest time so
    far that may move the watermark."""

    plan: Plan
    clock: int = BASE * MICROS
    _choice: random.Random = field(init=False)
    _events: list[tuple[int, int]] = field(default_factory=list)
    """The number and the time of each event so far."""
    _count: int = 0

    def __post_init__(self) -> None:
        self._choice = random.Random(self.plan.seed)

    @property
    def delay(self) -> int:
        return self.plan.delay * MICROS

    def build_backlog(self, count: int) -> Step:
        """Partitions of very different size and speed. Most times lie on a grid, so that records become late, and
        keys expire, exactly at the times of other records."""
        choice, grid = self._choice, self.delay // 4
        weights = choice.sample([1, 4, 12], PARTITIONS)
        fronts = [self.clock + choice.randrange(24) * grid for _ in range(PARTITIONS)]
        paces = [choice.choice([0, 1, 2, 4]) for _ in range(PARTITIONS)]
        spoiled = weights.index(1)  # a batch often holds no valid record of this partition
        drafts = [] if self._events else [self._send(0, time) for time in EDGES]  # without a watermark, times up to 1970 are late
        for partition in choice.choices(range(PARTITIONS), weights, k=count):
            fronts[partition] += grid * paces[partition]
            time = fronts[partition] - self._disorder() * grid + choice.choice([*EDGES, 0, 0, 0])
            kind = choice.random()
            if choice.random() < (0.5 if partition == spoiled else 0.05):
                drafts.append(self._spoil(partition, time))
            elif kind < 0.15:
                ahead = choice.choice([grid, 8 * grid, SKEW * MICROS // 2, SKEW * MICROS])
                drafts.append(self._send(partition, time + ahead, stamp=choice.choice([time, time + ahead])))
            elif kind < 0.5 and self._events:
                drafts.append(self._repeat(partition, time))
            else:
                drafts.append(self._send(partition, time))
        return drafts

    def build_steps(self, op: Op) -> list[Step]:
        match op:
            case Op.EDGES:
                return self._build_edges()
            case Op.AHEAD:
                return self._build_ahead()
            case Op.LEAP:
                return self._build_leap()
            case Op.INVALID:
                return [[self._spoil(self._any(), self.clock, kind) for kind in range(KINDS)]]
            case Op.CROWD:
                return [self._build_crowd(), self._build_crowd()]

    def _build_edges(self) -> list[Step]:
        """Keys that expire just before and after the watermark's next position, and records that are late just
        before and after it. Records that must be in one batch go to one partition, which a batch reads as a whole."""
        moment = self._next_millisecond() + self._choice.randrange(1, 4) * self.delay
        home = self._any()
        first = self._count
        keys = [self._send(home, moment + edge) for edge in EDGES]
        copies = list(range(first, self._count))
        pusher = self._send(self._any(), moment + 2 * self.delay)
        after = moment + self.delay
        come_again = [self._send(home, after + MICROS + index, event) for index, event in enumerate(copies)]
        late = [self._send(home, after + edge) for edge in EDGES]
        filler = self._send(home, moment + 2, copies[0])
        last = [self._send(self._any(), after + 2 * MICROS, event) for event in copies]
        return [keys, [pusher], [filler], self._mix([*come_again, *late]), last]

    def _build_ahead(self) -> list[Step]:
        stamp = self._next_millisecond()
        ahead = (1, self.delay // MICROS, SKEW, SKEW + 1)
        drafts = [self._send(self._any(), stamp + milliseconds * MICROS, stamp=stamp) for milliseconds in ahead]
        future = self._send(self._any(), YEAR_2099 * MICROS, stamp=stamp)
        both = self._send(self._any(), YEAR_2099 * MICROS, stamp=YEAR_2099 * MICROS)
        honest = self._send(self._any(), stamp, stamp=YEAR_2099 * MICROS)
        return [self._mix([*drafts, future, both, honest]), [self._repeat(self._any(), self.clock) for _ in range(4)]]

    def _build_leap(self) -> list[Step]:
        before = self.clock
        leap = self._send(self._any(), before + self._choice.choice([3 * self.delay, SKEW * MICROS]))
        others = [[self._send(self._any(), before + index * MICROS), self._repeat(self._any(), before + index)] for index in range(2)]
        return [[leap], *others]

    def _build_crowd(self) -> Step:
        front = self.clock + self._choice.randrange(5) * self.delay // 4
        drafts = []
        for _ in range(self._choice.randrange(4, 14)):
            time = front - self._disorder() * self.delay // 4 + self._choice.choice(EDGES)
            drafts.append(self._repeat(self._any(), time) if self._choice.random() < 0.4 else self._send(self._any(), time))
        return drafts

    def build_present(self, now: int) -> list[Step]:
        """`now` in milliseconds. The time at which the driver reads the first record moves the watermark, so that
        all records of the past are late."""
        past = self.clock
        ahead = self._send(0, (now + SKEW // 2) * MICROS, stamp=YEAR_2099 * MICROS)
        return [[ahead], [self._send(1, past)], [self._send(2, past), self._send(2, now * MICROS)]]

    def _next_millisecond(self) -> int:
        return (self.clock // MICROS + 1) * MICROS

    def _any(self) -> int:
        return self._choice.choice([0, 0, 0, 0, 1, 1, 2])

    def _disorder(self) -> int:
        """How many quarters of the delay a record is behind."""
        return self._choice.choice([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 8])

    def _mix(self, step: Step) -> Step:
        return self._choice.sample(step, len(step))

    def _repeat(self, partition: int, time: int) -> Draft:
        """A copy of an earlier event, mostly a recent one, with the same time or another."""
        event, its_time = self._choice.choice(self._events[-self._choice.choice([8, 40]) :])
        return self._send(partition, self._choice.choice([its_time, time]), event)

    def _send(self, partition: int, time: int, event: int | None = None, stamp: int | None = None) -> Draft:
        """A record that is valid, or invalid only for its time; of a new event if none is given. Its Kafka timestamp
        is mostly a moment after its event time."""
        if event is None:
            event, self._count = self._count, self._count + 1
        self._events.append((event, time))
        delays = (0, MICROS, 5000 * MICROS, self.delay)
        stored = time + self._choice.choice(delays) if stamp is None else stamp
        if time < YEAR_2099 * MICROS:
            self.clock = max(self.clock, min(time, stored))
        content, headers = SHAPES[self.plan.shape].apply(build_value(write_id(event), time, self.plan.form))
        key = None if event % 4 == 0 else f"k{event % 5}".encode()
        return Draft(partition, max(1, -(-stored // MICROS)), content, key, headers)

    def _spoil(self, partition: int, time: int, kind: int | None = None) -> Draft:
        """An invalid record, mostly with the id of a valid one."""
        event = self._choice.choice(self._events)[0] if self._events else 0
        value = spoil(event, time, self.plan.form, self._choice.randrange(KINDS) if kind is None else kind)
        content, headers = SHAPES[self.plan.shape].apply(value)
        return Draft(partition, time // MICROS, content, b"spoiled", headers)


def write_id(event: int) -> Any:
    """A number or a text: they are different keys."""
    return event if event % 3 == 0 else f"e{event}"


def build_value(identity: Any, time: int, form: str) -> bytes:
    match form:
        case "Iso8601":
            milliseconds, micros = divmod(time, MICROS)
            text = write_time(milliseconds * MICROS)
            at = json.dumps(ISO_FORMS[time // MICROS % len(ISO_FORMS)](text if micros == 0 else f"{text[:-1]}{micros:03}Z"))
        case "EpochMillis":
            at = str(Decimal(time) / MICROS)
        case "EpochMicros":
            at = str(time)
        case "EpochNanos":
            at = str(time * 1000)
        case _:
            at = str(Decimal(time) / (MICROS * MICROS))
    return f'{{"id": {json.dumps(identity)}, "at": {at}}}'.encode()


KINDS = 13


def spoil(event: int, time: int, form: str, kind: int) -> bytes | None:
    good = build_value(write_id(event), time, form)
    at = good[good.index(b'"at"') : -1]
    spoiled: list[bytes | None] = [
        None,
        good[:-1] + b', "z": "\xff"}',
        good[:-1],
        good + b"{}",
        b"{" + at + b"}",
        b'{"id": null, ' + at + b"}",
        b'{"id": "", ' + at + b"}",
        b'{"id": [1], ' + at + b"}",
        b'{"id": "\\ud800", ' + at + b"}",
        b'{"id": 1}',
        b'{"id": 1, "at": null}',
        b'{"id": 1, "at": "soon"}',
        b'{"id": 1, "at": {"x": 1}}',
    ]
    assert len(spoiled) == KINDS
    return spoiled[kind]
