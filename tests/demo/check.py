"""The verdict of the demo: compares the whole output topic with the whole input topic. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from demo.flights import event_key


@dataclass(frozen=True)
class Verdict:
    """All counts are records, `distinct` and `missing` are events."""

    sent: int
    distinct: int
    out: int
    missing: int
    """Events that the producer sent and that the output lacks."""
    repeated: int
    """Records of the output whose event stands in the output before them."""
    unknown: int
    """Records of the output that the producer never sent with these bytes."""

    @property
    def removed(self) -> int:
        return self.sent - self.out

    def list_failures(self, planned: int, duplicates: int) -> list[str]:
        """The reasons why the run failed; empty when it succeeded.

        The output must be complete, without duplicates and without unknown records. The run also fails when it proves
        nothing: when not all `planned` events were sent, or fewer than `duplicates` duplicates.
        """
        counts = ((self.missing, "missing events"), (self.repeated, "repeated records"), (self.unknown, "records that were never sent"))
        failures = [f"The output has {count:,} {what}." for count, what in counts if count]
        if self.distinct != planned:
            failures.append(f"The demo planned {planned:,} events, and the producer sent {self.distinct:,}.")
        if self.sent - self.distinct < duplicates:
            failures.append(f"The producer sent only {self.sent - self.distinct:,} duplicates; the demo needs {duplicates:,}.")
        return failures


def judge(sent: Iterable[bytes], out: Iterable[bytes]) -> Verdict:
    """Compares the bytes of the records, and the key that the DedupJob deduplicates by."""
    values_in: set[bytes] = set()
    count_in = 0
    for value in sent:
        count_in += 1
        values_in.add(value)
    keys_in = {event_key(value) for value in values_in}
    keys_out: Counter[tuple[str, ...]] = Counter()
    unknown = 0
    for value in out:
        if value in values_in:
            keys_out[event_key(value)] += 1
        else:
            unknown += 1
    count_out = keys_out.total() + unknown
    return Verdict(count_in, len(keys_in), count_out, len(keys_in - keys_out.keys()), keys_out.total() - len(keys_out), unknown)
