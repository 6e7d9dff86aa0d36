"""Remembers what the operator's pure functions said, so that five thousand seeds take minutes.

Only functions without time or state, by the whole of their input. A mutant starts with an empty memory (`forget`).
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

from dedup_api.job_config import JobConfig
from dedup_api.spec import DedupJobSpec
from dedup_api.status import DedupJobStatus
from dedup_operator.domain.build import Children, JobImage
from dedup_operator.domain.inputs import DriverInputs
from dedup_operator.domain.validate import Invalid, ValidJob
from simulation.api_server import Json, copy

checkpoint_module: Any = import_module("dedup_operator.domain.checkpoint")
decide_module: Any = import_module("dedup_operator.domain.decide")
workload_module: Any = import_module("dedup_operator.domain.workload")
reconcile_module: Any = import_module("dedup_operator.reconcile")

_memory: dict[Any, Any] = {}
MANY = 20_000


def forget() -> None:
    _memory.clear()


def _recall(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _memory:
        if len(_memory) > MANY:
            _memory.clear()
        _memory[key] = make()
    return _memory[key]


@contextmanager
def remembering() -> Iterator[None]:
    real_validate, real_status = reconcile_module.validate, reconcile_module.parse_status
    real_inputs, real_children = reconcile_module.build_inputs, reconcile_module.build_children

    def validate(resource: Json) -> ValidJob | Invalid:
        metadata = resource["metadata"]
        key = ("job", metadata["namespace"], metadata["name"], marshal.dumps(resource.get("spec")))
        found: ValidJob | Invalid = _recall(key, lambda: real_validate(resource))
        if isinstance(found, Invalid):
            return found
        return replace(found, uid=metadata["uid"], generation=metadata["generation"])

    def parse_status(resource: Json) -> DedupJobStatus:
        found: DedupJobStatus = _recall(("status", marshal.dumps(resource.get("status"))), lambda: real_status(resource))
        return found

    def build_inputs(namespace: str, name: str, spec: DedupJobSpec, pinned: JobConfig | None) -> DriverInputs:
        # What the key's ids stand for is kept with the answer, so no id comes twice.
        key = ("inputs", namespace, name, id(spec), id(pinned))
        found: DriverInputs = _recall(key, lambda: (real_inputs(namespace, name, spec, pinned), spec, pinned))[0]
        return found

    def build_children(job: ValidJob, inputs: DriverInputs, image: JobImage) -> Children:
        key = ("children", job.namespace, job.name, job.uid, job.generation, id(job.spec), id(inputs), image)
        kept = _recall(key, lambda: (_fold(real_children(job, inputs, image)), job.spec, inputs))[0]
        bodies: dict[str, Any] = {field: marshal.loads(body) if body is not None else None for field, body in kept.items()}
        return Children(**bodies)

    real_spec, real_config = workload_module.parse_spec, checkpoint_module.parse_config

    def parse_spec(text: str | None) -> DedupJobSpec | None:
        found: DedupJobSpec | None = _recall(("spec", text), lambda: real_spec(text))
        return found

    def parse_config(text: str | None) -> JobConfig | None:
        found: JobConfig | None = _recall(("config", text), lambda: real_config(text))
        return found

    replaced: dict[tuple[Any, str], Any] = {
        (reconcile_module, "validate"): validate,
        (reconcile_module, "parse_status"): parse_status,
        (reconcile_module, "build_inputs"): build_inputs,
        (reconcile_module, "build_children"): build_children,
        (decide_module, "build_inputs"): build_inputs,
        (workload_module, "parse_spec"): parse_spec,
        (checkpoint_module, "parse_config"): parse_config,
    }
    before = {place: getattr(*place) for place in replaced}
    for (module, name), function in replaced.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


def _fold(children: Children) -> dict[str, bytes | None]:
    """A fresh copy for each round: nobody can spoil what is remembered."""
    bodies = {field: getattr(children, field) for field in children.__dataclass_fields__}
    return {field: marshal.dumps(copy(body)) if body is not None else None for field, body in bodies.items()}
