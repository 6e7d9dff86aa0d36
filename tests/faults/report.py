"""What a run says, while it goes on and at its end. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from dedup_api.faults import Fault
from dedup_api.spec import Delivery
from dedup_job.checkpoint.totals import Totals
from faults.check import Verdict
from faults.commits import describe_recoveries
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
    """That are to be in the output."""
    strays: Counter[Fault]
    """That are to be dead letters."""
    batches: int
    max_offsets: int
    seconds: float
    recoveries: tuple[float, ...]
    totals: Totals
    verdict: Verdict
    """On the output."""
    letters: Verdict
    """On the dead letters."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each fault happened, by names."""
    ends: Counter[str] = field(default_factory=Counter)
    """How drivers ended that were not killed."""
    violations: tuple[str, ...] = ()
    """What else must not be."""

    @property
    def failures(self) -> list[str]:
        """What speaks against the run; empty when the promise held. AtLeastOnce may deliver twice."""
        verdict, letters = (self._forgive(found).failures for found in (self.verdict, self.letters))
        return [*verdict, *(f"{failure} of the dead letters" for failure in letters), *self.violations]

    def _forgive(self, verdict: Verdict) -> Verdict:
        return verdict if self.delivery is Delivery.EXACTLY_ONCE else replace(verdict, twice=0)

    @property
    def kills(self) -> int:
        return self.done["kill"]

    def describe(self) -> str:
        late = self.strays[Fault.LATE]
        invalid = self.strays.total() - late
        lines = [
            f"{self.delivery}, seed {self.seed}: {self.records:,} records of {self.events:,} events, {invalid:,} invalid and {late:,} late "
            f"ones, in {self.batches} batches (maxOffsetsPerTrigger {self.max_offsets:,}), {self.seconds:.0f} s",
            f"faults: {_list(self.done)}",
            f"other ends of drivers: {_list(self.ends)}",
            f"from a kill to the next committed batch: {describe_recoveries(list(self.recoveries))}",
            f"the driver's own count: {self.totals.rows_in:,} in, {self.totals.rows_out:,} out, {self.totals.duplicates:,} duplicates, "
            f"{self.totals.late:,} late, {sum(self.totals.invalid.values()):,} invalid, {self.totals.dead_letters:,} dead letters",
            f"out {_describe(self.verdict)}, out of order {self.verdict.disordered:,}",
            *self.verdict.examples,
            f"dead letters {_describe(self.letters)}",
            *self.letters.examples,
            *self.violations,
        ]
        return "\n".join(lines)


def _describe(verdict: Verdict) -> str:
    counts = f"missing {verdict.missing:,}, twice {verdict.twice:,}, foreign {verdict.foreign:,}, changed {verdict.changed:,}"
    return f"{verdict.out:,}: {counts}"


def _list(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"
