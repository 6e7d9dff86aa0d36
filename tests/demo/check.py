"""The verdict: the whole output against the plan of what went in. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from demo.flights import event_key


@dataclass(frozen=True)
class Verdict:
    """All counts are records."""

    sent: int
    distinct: int
    out: int
    missing: int
    """Events that went in and never came out."""
    twice: int
    """Records that came out although their event had come out before."""
    foreign: int
    """Records whose bytes nobody sent."""

    @property
    def removed(self) -> int:
        return self.sent - self.out

    def list_failures(self, planned: int, duplicates: int) -> list[str]:
        """What speaks against the run; empty when it shows what it is meant to show.

        The promise is that nothing is missing, twice or foreign. It was put to the test only if all of the `planned`
        events went in, and at least so many `duplicates` with them.
        """
        failures = [
            f"{count:,} {what}"
            for count, what in ((self.missing, "events are missing"), (self.twice, "records came twice"), (self.foreign, "are foreign"))
            if count
        ]
        if self.distinct != planned:
            failures.append(f"{planned:,} events were planned and {self.distinct:,} went in")
        if self.sent - self.distinct < duplicates:
            failures.append(f"only {self.sent - self.distinct:,} duplicates went in, {duplicates:,} are needed to show anything")
        return failures


def judge(sent: Iterable[bytes], out: Iterable[bytes]) -> Verdict:
    """Compares by the bytes that were sent, and by the key that the job deduplicates on."""
    values_in: set[bytes] = set()
    count_in = 0
    for value in sent:
        count_in += 1
        values_in.add(value)
    keys_in = {event_key(value) for value in values_in}
    keys_out: Counter[tuple[str, ...]] = Counter()
    foreign = 0
    for value in out:
        if value in values_in:
            keys_out[event_key(value)] += 1
        else:
            foreign += 1
    count_out = keys_out.total() + foreign
    return Verdict(count_in, len(keys_in), count_out, len(keys_in - keys_out.keys()), keys_out.total() - len(keys_out), foreign)
