"""Edits every field of the spec, and back: after each edit the objects must be those of a new job that has the edited
spec.

An edit must also do what the table of `dedup_api.changes` says for its field: it leaves the driver running, restarts
the driver, is blocked, or is refused by the API server. By default a random part of the fields is tested; `-m full`
tests all of them.
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
from dedup_operator.domain.driver_objects import CheckpointPlace, find_wanted_place
from fault_injection.api import ApiError, Json
from fault_injection.drivers import WAITING
from fault_injection.environment import JOB, SPEC, Environment, wait_until
from fault_injection.field_values import FIELDS, FieldValues, build_edit, merge, nest
from fault_injection.harness import Harness
from fault_injection.operators import Operator
from fault_injection.state import build_state, describe_difference

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1800)]

FIELDS_PER_RUN = 8
"""So many of about 40 fields are tested by default."""
AT_ONCE = int(os.environ.get("DEDUP_FIELDS_AT_ONCE", "4"))
KINDS = ("statefulsets", "jobs", "cronjobs", "configmaps", "persistentvolumeclaims", "services")
SHARED_CLAIMS = ("shared", "shared-2")
NOT_OWNED = {"kube-root-ca.crt", *SHARED_CLAIMS}
"""Names of objects that the operator does not create."""
POD = names.driver_pod_name(JOB)


def build_revert(present: Json, edit: Mapping[str, Any]) -> Json:
    """Builds the edit that reverts `edit`."""
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
class EditComparison:
    """Compares one job that is edited with new jobs: each step creates a new job with the edited spec, in a new
    namespace."""

    harness: Harness
    path: str
    values: FieldValues
    has_state: bool
    """Whether the driver has stored keys. If so, the operator blocks the edit of a field that the keys depend on."""
    edited: Environment = field(init=False)
    operators: list[Operator] = field(default_factory=list)

    async def open_environment(self) -> Environment:
        namespace = await self.harness.create_namespace()
        environment = self.harness.open_environment(namespace)
        claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        for name in SHARED_CLAIMS:
            shared = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim}
            await environment.api.create("persistentvolumeclaims", namespace, shared)
        self.operators.append(await self.harness.start_operator(namespace))
        return environment

    @property
    def base_spec(self) -> Json:
        topic = "events" if self.has_state else WAITING
        other_fields = merge(SPEC, {"source": {"topic": topic}})
        if "existing" in self.values.other_fields.get("checkpoint", {}):
            other_fields.pop("checkpoint")
        return merge(other_fields, self.values.other_fields)

    async def close(self) -> None:
        for operator in self.operators:
            await operator.kill()

    def list_steps(self) -> Iterator[tuple[Any, Json]]:
        """(value, spec with this value) for each edit. The last value is None if the field may be removed again."""
        for value in self.values.valid:
            yield value, merge(self.base_spec, build_edit(self.path, value))
        if self.values.optional:
            yield None, merge(self.base_spec, nest(self.path, None))

    async def wait_for_expected_reason(self, environment: Environment, spec: Json) -> None:
        reason = expect_reason(spec)
        await environment.wait_reason(reason, "False" if reason == Reason.SOURCE_TOPIC_MISSING else "True")

    async def find_pod(self) -> str | None:
        pod = await self.edited.api.find("pods", self.edited.namespace, POD)
        return str(pod["metadata"]["uid"]) if pod else None

    async def collect_objects(self, environment: Environment) -> Json:
        job = await environment.api.get(names.PLURAL, environment.namespace, JOB)
        place, present = find_wanted_place(JOB, job["spec"]), {}
        for plural in KINDS:
            for item in await environment.api.list(plural, environment.namespace):
                if item["metadata"]["name"] not in NOT_OWNED and not is_scheduled_run(item) and not self.was_left_behind(item, place):
                    present[f"{plural}/{item['metadata']['name']}"] = self.remove_history(item)
        return build_state(present, environment.namespace)

    def was_left_behind(self, item: Json, place: CheckpointPlace) -> bool:
        """The claim that the job had before, or the record of its folder before. The operator deletes neither."""
        name, wanted = item["metadata"]["name"], {place.claim, names.record_name(place.claim, place.folder)}
        is_place = item["kind"] == "PersistentVolumeClaim" or name.startswith("checkpoint-")
        return CHANGES[self.path] is Change.UNTIL_KEYS and is_place and name not in wanted

    def remove_history(self, item: Json) -> Json:
        """Removes the annotations that depend on the job's history: how often the object was written, which claim was
        used, and the settings that the first keys were stored with."""
        of_keys = (CHECKPOINT_BEGUN, CHECKPOINT_CONFIG, CHECKPOINT_IDENTITY) if self.has_state else ()
        history = {APPLIED_GENERATION, CLAIM_UID, *of_keys}
        annotations = {key: value for key, value in item["metadata"].get("annotations", {}).items() if key not in history}
        return {**item, "metadata": {**item["metadata"], "annotations": annotations}}

    async def collect_objects_of_new_job(self, spec: Json) -> Json:
        environment = await self.open_environment()
        await create(environment, spec)
        await self.wait_for_expected_reason(environment, spec)
        found = await wait_until_stable(self, environment)
        await self.operators.pop().kill()
        await self.harness.node.stop_namespace(environment.namespace)
        return found


def is_scheduled_run(item: Json) -> bool:
    return any(owner["kind"] == "CronJob" for owner in item["metadata"].get("ownerReferences", []))


async def create(environment: Environment, spec: Json) -> None:
    metadata = {"name": JOB, "namespace": environment.namespace}
    document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
    await environment.api.create(names.PLURAL, environment.namespace, document)


async def wait_until_stable(comparison: EditComparison, environment: Environment) -> Json:
    """Returns the objects when they no longer change. The operator deletes ConfigMaps of earlier starts one
    reconciliation later."""
    found: Json = {}

    async def is_stable() -> bool:
        nonlocal found
        before, found = found, await comparison.collect_objects(environment)
        await asyncio.sleep(1.2)
        return before == found

    await wait_until(is_stable, "the objects no longer change")
    return found


async def check_field(harness: Harness, path: str, *, has_state: bool) -> None:
    comparison = EditComparison(harness, path, FIELDS[path], has_state)
    try:
        await check_edits(comparison)
    except AssertionError as error:
        logs = "\n".join(operator.describe() for operator in comparison.operators)
        keys = "the driver has stored keys" if has_state else "the driver has stored no keys"
        raise AssertionError(f"spec.{path}, {keys}: {error}\nend of the operator's log:\n{logs}") from error
    finally:
        await comparison.close()


async def check_edits(comparison: EditComparison) -> None:
    comparison.edited = await comparison.open_environment()
    await create(comparison.edited, comparison.base_spec)
    await comparison.wait_for_expected_reason(comparison.edited, comparison.base_spec)
    change = CHANGES[comparison.path]
    present = comparison.base_spec
    for value, spec in comparison.list_steps():
        pod, edit = await comparison.find_pod(), build_edit(comparison.path, value)
        if change is Change.STATE and comparison.has_state and not has_same_state(present, spec, comparison.path):
            await check_blocked(comparison, edit, build_revert(present, edit), pod)
            continue
        if change is Change.UNTIL_KEYS and comparison.has_state and has_other_place(present, spec):
            await check_refused(comparison, value)
            continue
        await comparison.edited.edit(**edit)
        await comparison.wait_for_expected_reason(comparison.edited, spec)
        if spec.get("suspend"):  # there is nothing to compare with: a new job that is suspended has no objects
            assert await comparison.find_pod() is None, "a suspended job still has a driver pod"
            continue
        expected = await comparison.collect_objects_of_new_job(spec)
        found = await wait_until_stable(comparison, comparison.edited)
        difference = describe_difference(expected, found)
        assert found == expected, f"after the edit to {value!r} the objects are not those of a new job:\n{difference}"
        if change is Change.LIVE and comparison.path != "suspend":
            assert await comparison.find_pod() == pod, f"the edit to {value!r} replaced the driver's pod; CHANGES says that it must not"
        has_effect = find_effective_value(present, comparison.path) != find_effective_value(spec, comparison.path)
        if change is Change.RESTART and pod is not None and has_effect:
            assert await comparison.find_pod() != pod, f"the edit to {value!r} did not restart the driver; CHANGES says that it must"
        present = spec
    await check_refused_values(comparison)
    overlaps = comparison.harness.drivers.find_overlaps(comparison.edited.namespace)
    assert overlaps == [], "two drivers used one checkpoint at the same time"


async def check_blocked(comparison: EditComparison, edit: Json, revert: Json, pod: str | None) -> None:
    before = await wait_until_stable(comparison, comparison.edited)
    await comparison.edited.edit(**edit)
    await comparison.edited.wait_reason(Reason.CHANGE_BLOCKED, "False")
    assert await wait_until_stable(comparison, comparison.edited) == before, "a blocked edit must change no object"
    assert await comparison.find_pod() == pod, "a blocked edit must not replace the driver's pod"
    await comparison.edited.edit(**revert)
    await comparison.wait_for_expected_reason(comparison.edited, comparison.base_spec)
    assert await comparison.find_pod() == pod, "reverting a blocked edit must not replace the driver's pod"


async def check_refused_values(comparison: EditComparison) -> None:
    for value in (*comparison.values.invalid, *comparison.values.immutable):
        await check_refused(comparison, value)


async def check_refused(comparison: EditComparison, value: Any) -> None:
    try:
        await comparison.edited.edit(**build_edit(comparison.path, value))
    except ApiError as error:
        parents = [comparison.path.rsplit(".", count)[0] for count in range(comparison.path.count(".") + 1)]
        names_field = any(f"spec.{parent}" in str(error) for parent in parents)
        assert error.status == 422 and names_field, f"the API server must answer 422 and name spec.{comparison.path}: {error}"
    else:
        raise AssertionError(f"the API server accepts {value!r}; the CRD must refuse it")


def has_other_place(before: Json, after: Json) -> bool:
    return find_wanted_place(JOB, before) != find_wanted_place(JOB, after)


def find_value(spec: Json, path: str) -> Any:
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
    "checkpoint.existing.fsGroup": "Apply",
    "parallelism": 2,
    "driver.resources.requests.memory": "2Gi",
}


def find_effective_value(spec: Json, path: str) -> Any:
    """The value of a field, or its default when the field is absent. Contains only defaults that are also among the
    valid values."""
    found = find_value(spec, path)
    return DEFAULTS.get(path) if found is None else found


def has_same_state(before: Json, after: Json, path: str) -> bool:
    top = path.split(".")[0] if path in {"sink.kafka", "sink.console"} else path
    return bool(find_effective_value(before, top) == find_effective_value(after, top))


def list_cases(paths: list[str]) -> list[tuple[str, bool]]:
    """(path, whether the driver has stored keys). A field that the keys depend on is tested both ways."""
    both = {Change.STATE, Change.UNTIL_KEYS}
    return [(path, has_state) for path in paths for has_state in ((False, True) if CHANGES[path] in both else (True,))]


async def check_fields(harness: Harness, paths: list[str]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def check(path: str, has_state: bool) -> None:
        async with limit:
            await check_field(harness, path, has_state=has_state)

    cases = list_cases(paths)
    ended = await asyncio.gather(*(check(*case) for case in cases), return_exceptions=True)
    failed = [str(error) or repr(error) for error in ended if error is not None]
    assert not failed, f"{len(failed)} of {len(cases)} fields failed\n" + "\n\n".join(failed)


async def test_after_edits_of_some_fields_the_objects_are_those_of_a_new_job(harness: Harness, seed: int) -> None:
    await check_fields(harness, random.Random(seed).sample(sorted(FIELDS), FIELDS_PER_RUN))


@pytest.mark.full
@pytest.mark.parametrize("part", range(6))
async def test_after_edits_of_every_field_the_objects_are_those_of_a_new_job(harness: Harness, part: int) -> None:
    await check_fields(harness, sorted(FIELDS)[part::6])
