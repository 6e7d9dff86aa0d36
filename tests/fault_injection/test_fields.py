"""Every field of the spec: whatever it is edited to, and back, the objects are those that a new job with that spec has.

And the job does with the edit what the table of `dedup_api.changes` says: leaves the driver alone, restarts it, blocks it, or the API
server refuses it. By default a drawn part of the fields; `-m full` takes them all.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from dedup_api import names
from dedup_api.changes import CHANGES, Change
from dedup_api.reasons import Reason
from dedup_operator.domain.annotations import APPLIED_GENERATION, CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY, CLAIM_UID
from fault_injection.api import ApiError, Json
from fault_injection.drivers import WAITING
from fault_injection.environment import JOB, SPEC, Stage, wait_until
from fault_injection.field_values import FIELDS, Values, build_edit, merge, nest
from fault_injection.harness import Plane
from fault_injection.operators import Operator
from fault_injection.state import build_state, describe_difference

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1800)]

DRAWN = 8
"""Fields of each run by default, of about 40."""
AT_ONCE = int(os.environ.get("DEDUP_FIELDS_AT_ONCE", "4"))
KINDS = ("statefulsets", "jobs", "cronjobs", "configmaps", "persistentvolumeclaims", "services")
FOREIGN = {"kube-root-ca.crt", "shared"}
"""Objects that are not the operator's."""
POD = names.driver_pod_name(JOB)


def build_revert(present: Json, edit: Mapping[str, Any]) -> Json:
    """The edit that takes `edit` back."""
    revert: Json = {}
    for key, value in edit.items():
        before = present.get(key)
        both = isinstance(value, Mapping) and isinstance(before, dict)
        revert[key] = build_revert(before, value) if both and isinstance(before, dict) else before
    return revert


def expect_reason(spec: Json) -> Reason:
    trigger = spec.get("trigger", {})
    if spec.get("suspend"):
        return Reason.SUSPENDED
    if "availableNow" in trigger:
        return Reason.SCHEDULED if trigger["availableNow"].get("schedule") else Reason.COMPLETED
    return Reason.SOURCE_TOPIC_MISSING if spec["source"]["topic"].startswith(WAITING) else Reason.RUNNING


@dataclass
class Bench:
    """Two namespaces, an operator for each: one job that is edited, and one that is new at every spec."""

    plane: Plane
    path: str
    values: Values
    begun: bool
    """Whether keys are stored: then an edit of a state field is blocked."""
    edited: Stage = field(init=False)
    operators: list[Operator] = field(default_factory=list)

    async def open_stage(self) -> Stage:
        namespace = await self.plane.create_namespace()
        stage = self.plane.open_stage(namespace)
        claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        shared = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": claim}
        await stage.api.create("persistentvolumeclaims", namespace, shared)
        self.operators.append(await self.plane.start_operator(namespace))
        return stage

    @property
    def base(self) -> Json:
        topic = "events" if self.begun else WAITING
        beside = merge(SPEC, {"source": {"topic": topic}})
        if "existing" in self.values.beside.get("checkpoint", {}):
            beside.pop("checkpoint")
        return merge(beside, self.values.beside)

    async def close(self) -> None:
        for operator in self.operators:
            await operator.kill()

    def list_steps(self) -> Iterator[tuple[Any, Json]]:
        """(value or None, spec) from the default on and back to it."""
        for value in self.values.good:
            yield value, merge(self.base, build_edit(self.path, value))
        if self.values.unset:
            yield None, merge(self.base, nest(self.path, None))

    async def settle(self, stage: Stage, spec: Json) -> None:
        reason = expect_reason(spec)
        await stage.wait_reason(reason, "False" if reason is Reason.SOURCE_TOPIC_MISSING else "True")

    async def find_pod(self) -> str | None:
        pod = await self.edited.api.find("pods", self.edited.namespace, POD)
        return str(pod["metadata"]["uid"]) if pod else None

    async def collect(self, stage: Stage) -> Json:
        present = {}
        for plural in KINDS:
            for item in await stage.api.list(plural, stage.namespace):
                if item["metadata"]["name"] not in FOREIGN and not is_run(item):
                    present[f"{plural}/{item['metadata']['name']}"] = self.strip(item)
        return build_state(present, stage.namespace)

    def strip(self, item: Json) -> Json:
        """Without what tells the object's history: how often it was written, and with what settings its keys were begun."""
        of_keys = (CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY) if self.begun else ()
        history = {APPLIED_GENERATION, CLAIM_UID, *of_keys}
        annotations = {key: value for key, value in item["metadata"].get("annotations", {}).items() if key not in history}
        return {**item, "metadata": {**item["metadata"], "annotations": annotations}}

    async def collect_fresh(self, spec: Json) -> Json:
        stage = await self.open_stage()
        await create(stage, spec)
        await self.settle(stage, spec)
        found = await wait_for_rest(self, stage)
        await self.operators.pop().kill()
        await self.plane.node.forget(stage.namespace)
        return found


def is_run(item: Json) -> bool:
    return any(owner["kind"] == "CronJob" for owner in item["metadata"].get("ownerReferences", []))


async def create(stage: Stage, spec: Json) -> None:
    metadata = {"name": JOB, "namespace": stage.namespace}
    document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
    await stage.api.create(names.PLURAL, stage.namespace, document)


async def wait_for_rest(bench: Bench, stage: Stage) -> Json:
    """The objects, when they have stood still for a while: settings of earlier starts are swept a round later."""
    found: Json = {}

    async def stands() -> bool:
        nonlocal found
        before, found = found, await bench.collect(stage)
        await asyncio.sleep(1.2)
        return before == found

    await wait_until(stands, "the objects stand still")
    return found


async def check_field(plane: Plane, path: str, *, begun: bool) -> None:
    bench = Bench(plane, path, FIELDS[path], begun)
    try:
        await walk(bench)
    except AssertionError as error:
        logs = "\n".join(operator.describe() for operator in bench.operators)
        raise AssertionError(f"spec.{path}, keys {'' if begun else 'not '}stored: {error}\n{logs}") from error
    finally:
        await bench.close()


async def walk(bench: Bench) -> None:
    bench.edited = await bench.open_stage()
    await create(bench.edited, bench.base)
    await bench.settle(bench.edited, bench.base)
    change = CHANGES[bench.path]
    present = bench.base
    for value, spec in bench.list_steps():
        pod, edit = await bench.find_pod(), build_edit(bench.path, value)
        if change is Change.STATE and bench.begun and not same_state(present, spec, bench.path):
            await check_blocked(bench, edit, build_revert(present, edit), pod)
            continue
        await bench.edited.edit(**edit)
        await bench.settle(bench.edited, spec)
        if spec.get("suspend"):  # one that was never anything but suspended has no objects
            assert await bench.find_pod() is None
            continue
        fresh = await bench.collect_fresh(spec)
        found = await wait_for_rest(bench, bench.edited)
        assert found == fresh, f"edited to {value!r}:\n{describe_difference(fresh, found)}"
        if change is Change.LIVE and bench.path != "suspend":
            assert await bench.find_pod() == pod, f"edited to {value!r}, the driver is left alone"
        if change is Change.RESTART and pod is not None and effective(present, bench.path) != effective(spec, bench.path):
            assert await bench.find_pod() != pod, f"edited to {value!r}, the driver restarts"
        present = spec
    await check_bad(bench)
    assert bench.plane.drivers.find_overlaps(bench.edited.namespace) == []


async def check_blocked(bench: Bench, edit: Json, revert: Json, pod: str | None) -> None:
    before = await wait_for_rest(bench, bench.edited)
    await bench.edited.edit(**edit)
    await bench.edited.wait_reason(Reason.CHANGE_BLOCKED, "False")
    assert (await wait_for_rest(bench, bench.edited), await bench.find_pod()) == (before, pod), "nothing is touched"
    await bench.edited.edit(**revert)
    await bench.settle(bench.edited, bench.base)
    assert await bench.find_pod() == pod, "taken back"


async def check_bad(bench: Bench) -> None:
    for value in (*bench.values.bad, *bench.values.fixed):
        try:
            await bench.edited.edit(**build_edit(bench.path, value))
        except ApiError as error:
            parents = [bench.path.rsplit(".", count)[0] for count in range(bench.path.count(".") + 1)]
            assert error.status == 422 and any(f"spec.{parent}" in str(error) for parent in parents), error
        else:
            raise AssertionError(f"the API server takes {value!r}")


def find(spec: Json, path: str) -> Any:
    found: Any = spec
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


DEFAULTS: Json = {
    "source.startingOffsets": "Earliest",
    "source.onDataLoss": "Fail",
    "sink.kafka.delivery": "ExactlyOnce",
    "sink.kafka.ordering": "PerKey",
    "eventTime.format": "Iso8601",
    "parallelism": 2,
    "driver.resources.requests.memory": "2Gi",
}


def effective(spec: Json, path: str) -> Any:
    """What a field comes to, where a good value is its default too."""
    found = find(spec, path)
    return DEFAULTS.get(path) if found is None else found


def same_state(before: Json, after: Json, path: str) -> bool:
    top = path.split(".")[0] if path in {"sink.kafka", "sink.console"} else path
    return bool(effective(before, top) == effective(after, top))


def list_cases(paths: list[str]) -> list[tuple[str, bool]]:
    """State fields are edited before and after the first key is stored."""
    return [(path, begun) for path in paths for begun in ((False, True) if CHANGES[path] is Change.STATE else (True,))]


async def check_fields(plane: Plane, paths: list[str]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def check(path: str, begun: bool) -> None:
        async with limit:
            await check_field(plane, path, begun=begun)

    cases = list_cases(paths)
    ended = await asyncio.gather(*(check(*case) for case in cases), return_exceptions=True)
    failed = [str(error) or repr(error) for error in ended if error is not None]
    assert not failed, f"{len(failed)} of {len(cases)}\n" + "\n\n".join(failed)


async def test_edits_of_some_fields_end_where_a_new_job_begins(plane: Plane, seed: int) -> None:
    await check_fields(plane, random.Random(seed).sample(sorted(FIELDS), DRAWN))


@pytest.mark.full
@pytest.mark.parametrize("part", range(6))
async def test_edits_of_every_field_end_where_a_new_job_begins(plane: Plane, part: int) -> None:
    await check_fields(plane, sorted(FIELDS)[part::6])
