"""The operator's own metrics. Each driver serves the metrics of its DedupJob itself."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dedup_api.reasons import Reason
from dedup_api.version import VERSION
from dedup_operator.domain.errors import ApiConflict, ApiUnavailable


class Metrics:
    """Each instance has its own registry, so that tests do not share one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciliations = Counter(
            "dedup_operator_reconcile", "Reconciliations of DedupJobs, by how they ended.", ["result"], registry=self.registry
        )
        self._duration = Histogram(
            "dedup_operator_reconcile_duration_seconds",
            "Time of one reconciliation of a DedupJob, in seconds.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self._jobs = Gauge("dedup_operator_jobs", "DedupJobs, by the reason of their condition Ready.", ["reason"], registry=self.registry)
        info = Gauge("dedup_operator_build_info", "1, with the version as a label.", ["version"], registry=self.registry)
        info.labels(VERSION).set(1)
        self._reasons: dict[Hashable, Reason] = {}
        for result in ("ok", "conflict", "unavailable", "error"):
            self._reconciliations.labels(result)

    @contextmanager
    def measure_reconciliation(self) -> Iterator[None]:
        started, result = time.monotonic(), "error"
        try:
            yield
            result = "ok"
        except ApiConflict:
            result = "conflict"
            raise
        except ApiUnavailable:
            result = "unavailable"
            raise
        finally:
            self._reconciliations.labels(result).inc()
            self._duration.observe(time.monotonic() - started)

    def set_reason(self, job: Hashable, reason: Reason) -> None:
        if self._reasons.get(job) is not reason:
            self._reasons[job] = reason
            self._recount()

    def forget(self, job: Hashable) -> None:
        if self._reasons.pop(job, None) is not None:
            self._recount()

    def _recount(self) -> None:
        tally = Tally(self._reasons.values())
        for reason in Reason:
            if tally[reason] or self.registry.get_sample_value("dedup_operator_jobs", {"reason": reason}) is not None:
                self._jobs.labels(reason).set(tally[reason])
