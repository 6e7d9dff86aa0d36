"""Lists of the operator and of its chart: what it writes to the cluster, and what configures it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import dedup_operator.domain.annotations
from compatibility.lists import List, flatten, list_keys, list_metrics
from dedup_api.reasons import Reason
from dedup_api.status import DriverExit
from dedup_operator.adapters.metrics import Metrics
from dedup_operator.domain.annotations import GivenUp
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.manifests import JobImage, build_children
from dedup_operator.domain.validate import ValidJob, validate
from dedup_operator.settings import build_parser

ROOT = Path(__file__).resolve().parents[2]
IMAGE = JobImage("registry.example.com/dedup-job:1", "Always", ("pull-secret",))

SMALL: dict[str, Any] = {
    "source": {"bootstrapServers": "kafka:9092", "topic": "in"},
    "key": {"fields": ["id"]},
    "eventTime": {"field": "time"},
    "watermark": "10m",
    "sink": {"kafka": {"topic": "out"}},
}
SAMPLES: dict[str, dict[str, Any]] = {
    "stream": SMALL,
    "run": {
        **SMALL,
        "trigger": {"availableNow": {}},
        "checkpoint": {"existing": {"claimName": "shared"}},
        "restartNonce": 1,
    },
    "schedule": {
        **SMALL,
        "format": "Raw",
        "key": {"from": "KafkaKey"},
        "eventTime": {"from": "KafkaTimestamp", "maxFutureSkew": "5m"},
        "onLate": "Emit",
        "onInvalid": "DeadLetter",
        "deadLetter": {"topic": "dead"},
        "trigger": {"availableNow": {"schedule": "@daily"}},
        "sink": {"kafka": {"topic": "out", "transactionalIdPrefix": "shop"}},
        "checkpoint": {"claim": {"size": "2Gi", "storageClassName": "fast"}, "reclaimPolicy": "Delete"},
        "parallelism": 4,
        "driver": {"resources": {"requests": {"memory": "1Gi"}}},
    },
}


def _list_manifests() -> List:
    found: List = {}
    for name, spec in SAMPLES.items():
        job = validate({"metadata": {"namespace": "shop", "name": name, "uid": "uid", "generation": 1}, "spec": spec})
        assert isinstance(job, ValidJob), f"a DedupJob of the previous version is refused: {job}"
        children = build_children(job, build_driver_settings(job.namespace, job.name, job.spec, None), IMAGE)
        for child in vars(children).values():
            if child is not None:
                digest = re.compile(rf"\b{name}-job-[0-9a-f]{{8}}\b")
                items = flatten(child, f"{name}: {child['kind']}").items()
                found.update({path: digest.sub(f"{name}-job-<digest>", value) for path, value in items})
    return found


def _list_annotations() -> List:
    """The constants by their value, whatever their Python names are."""
    return {
        value: ""
        for value in vars(dedup_operator.domain.annotations).values()
        if isinstance(value, str) and re.fullmatch(r"[a-z.]+/[a-z-]+", value)
    }


def _list_given_up_keys() -> List:
    exit = DriverExit(exit_code=65, reason="InvalidRecord", message="a message", finished_at="2026-01-01T00:00:00Z")
    return list_keys(GivenUp(3, Reason.INVALID_RECORD, "a message", exit).render())


def _list_label_values() -> List:
    samples = [sample for family in Metrics().registry.collect() for sample in family.samples if sample.name.endswith("_total")]
    return {f"{sample.name} {name}={value}": "" for sample in samples for name, value in sample.labels.items()}


class _Asked(Mapping[str, str]):
    """An empty environment that remembers which variables were asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _list_operator_settings() -> List:
    asked = _Asked()
    actions = [action for action in build_parser(asked)._actions if action.dest != "help"]
    flags = {flag: f"default: {action.default}" for action in actions for flag in action.option_strings}
    return {**flags, **dict.fromkeys(sorted(asked.names), "")}


COLLECTORS: dict[str, Callable[[], List]] = {
    "objects that the operator creates": _list_manifests,
    "labels and annotations of the operator": _list_annotations,
    "keys of the annotation given-up": _list_given_up_keys,
    "metrics of the operator": lambda: list_metrics(Metrics().registry),
    "label values of the operator's metrics": _list_label_values,
    "flags and environment variables of the operator": _list_operator_settings,
    "Helm values": lambda: flatten(yaml.safe_load((ROOT / "charts" / "dedup-operator" / "values.yaml").read_text())),
}
