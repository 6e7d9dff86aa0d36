"""The operator's own metrics. Each driver serves the metrics of its DedupJob itself."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from dedup_api.version import VERSION
from dedup_operator.domain.errors import ApiConflict, ApiUnavailable


class Metrics:
    """Each instance has its own registry, so that tests do not share one."""

    def __init__(self, is_active: Callable[[], bool] = lambda: True) -> None:
        """`is_active`: whether this replica reconciles DedupJobs. A standby must not show what it knew earlier."""
        self.registry = CollectorRegistry()
        self.is_active = is_active
        self._reconciliations = Counter(
            "dedup_operator_reconcile", "Reconciliations of DedupJobs, by how they ended.", ["result"], registry=self.registry
        )
        self._duration = Histogram(
            "dedup_operator_reconcile_duration_seconds",
            "Time of one reconciliation of a DedupJob, in seconds.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self._watched = Gauge(
            "dedup_operator_namespace_watched",
            "1 while the operator watches the namespace, 0 while it cannot; namespace is empty when it watches all namespaces.",
            ["namespace"],
            registry=self.registry,
        )
        leader = Gauge("dedup_operator_leader", "1 while this replica is the active one, 0 while it is a standby.", registry=self.registry)
        leader.set_function(lambda: float(self.is_active()))
        self.registry.register(self)
        info = Gauge("dedup_operator_build_info", "1, with the version as a label.", ["version"], registry=self.registry)
        info.labels(VERSION).set(1)
        self._reasons: dict[Hashable, str] = {}
        self._seen_reasons: set[str] = set()
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

    def set_watched(self, namespace: str | None, watched: bool) -> None:
        self._watched.labels(namespace or "").set(watched)

    def set_reason(self, job: Hashable, reason: str) -> None:
        self._reasons[job] = reason
        self._seen_reasons.add(reason)

    def forget(self, job: Hashable) -> None:
        self._reasons.pop(job, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The registry asks this when Prometheus scrapes."""
        family = GaugeMetricFamily("dedup_operator_jobs", "DedupJobs, by the reason of their condition Ready.", labels=["reason"])
        tally = Tally(self._reasons.values())
        # A reason that no DedupJob has any more must fall to 0.
        for reason in sorted(self._seen_reasons) if self.is_active() else ():
            family.add_metric([reason], tally[reason])
        yield family
