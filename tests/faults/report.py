"""What a run prints: its progress, and a report at the end. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from dedup_api.faults import Fault
from dedup_api.spec import Delivery
from dedup_job.checkpoint.totals import Totals
from faults.commits import describe_recoveries
from faults.output_check import Verdict
from faults.plan import Plan


@dataclass
class Progress:
    plan: Plan
    planned_faults: int
    faults: int = 0
    doing: str = ""

    def describe(self, seconds: float, fed: int, read: int, batch: int, totals: Totals) -> str:
        return (
            f"{seconds:.0f} s: fed {fed:,}, read {read:,}, out {totals.rows_out:,}, dead letters {totals.dead_letters:,}, batch {batch}; "
            f"faults {self.faults} of {self.planned_faults}, now {self.doing}"
        )


@dataclass(frozen=True)
class Report:
    seed: int
    delivery: Delivery
    records: int
    events: int
    """Events that must come out."""
    faulty: Counter[Fault]
    """Records that must become dead letters, by fault."""
    batches: int
    max_offsets: int
    seconds: float
    recoveries: tuple[float, ...]
    totals: Totals
    verdict: Verdict
    """The result for the output."""
    dead_letters: Verdict
    """The result for the dead letters."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each fault happened."""
    ends: Counter[str] = field(default_factory=Counter)
    """Exit codes and reasons of the drivers that were not killed."""
    violations: tuple[str, ...] = ()
    """Other mistakes, a sentence each."""

    @property
    def failures(self) -> list[str]:
        """All mistakes of the run. AtLeastOnce may repeat records."""
        output, dead_letters = (self._allow_repeats(found).failures for found in (self.verdict, self.dead_letters))
        return [*output, *(f"{failure} of the dead letters" for failure in dead_letters), *self.violations]

    def _allow_repeats(self, verdict: Verdict) -> Verdict:
        return verdict if self.delivery is Delivery.EXACTLY_ONCE else replace(verdict, repeated=0)

    @property
    def kills(self) -> int:
        return self.done["kill"]

    def describe(self) -> str:
        late = self.faulty[Fault.LATE]
        invalid = self.faulty.total() - late
        lines = [
            f"{self.delivery}, seed {self.seed}: {self.records:,} records of {self.events:,} events, {invalid:,} invalid and {late:,} late "
            f"records, in {self.batches} batches (maxOffsetsPerTrigger {self.max_offsets:,}), {self.seconds:.0f} s",
            f"faults: {_list(self.done)}",
            f"drivers that were not killed ended with: {_list(self.ends)}",
            f"from a kill to the next committed batch: {describe_recoveries(list(self.recoveries))}",
            f"the driver's own count: {self.totals.rows_in:,} in, {self.totals.rows_out:,} out, {self.totals.duplicates:,} duplicates, "
            f"{self.totals.late:,} late, {sum(self.totals.invalid.values()):,} invalid, {self.totals.dead_letters:,} dead letters",
            f"out {_describe(self.verdict)}, out of order {self.verdict.out_of_order:,}",
            *self.verdict.examples,
            f"dead letters {_describe(self.dead_letters)}",
            *self.dead_letters.examples,
            *self.violations,
        ]
        return "\n".join(lines)


def _describe(verdict: Verdict) -> str:
    counts = f"missing {verdict.missing:,}, repeated {verdict.repeated:,}, unexpected {verdict.unexpected:,}, changed {verdict.changed:,}"
    return f"{verdict.out:,}: {counts}"


def _list(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"
