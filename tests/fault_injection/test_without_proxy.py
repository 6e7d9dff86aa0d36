"""The harness without a proxy: a test creates its own namespace, starts an operator there, and checks what the harness
recorded."""

from __future__ import annotations

import pytest

from dedup_api import names
from dedup_api.reasons import Reason
from fault_injection.environment import JOB, wait_until
from fault_injection.harness import Harness
from fault_injection.scenarios import ONCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_harness_runs_a_job_and_counts_its_objects(harness: Harness) -> None:
    namespace = await harness.create_namespace()
    operator = await harness.start_operator(namespace)
    environment = harness.open_environment(namespace)
    await environment.create()
    await environment.wait_running()
    await environment.edit(restartNonce=1)
    await environment.wait_running()

    pods = await harness.api.list("pods", namespace)
    assert [pod["metadata"]["name"] for pod in pods] == [names.driver_pod_name(JOB)]
    assert [run.attempt for run in harness.drivers.runs if run.namespace == namespace] == [1, 2]
    assert harness.drivers.find_overlaps(namespace) == []
    assert (
        harness.object_counts.count(namespace)["pods"],
        harness.object_counts.count(namespace)["persistentvolumeclaims"],
    ) == (2, 1)

    assert not await operator.has_ended()
    await operator.kill()
    await harness.node.stop_namespace(namespace)


async def test_the_operator_removes_a_workload_that_was_created_too_late(harness: Harness) -> None:
    """An operator process that stalls can send a creation late, after the trigger has changed. The API server accepts
    it: a creation has no resourceVersion, and a StatefulSet may have the name of a Kubernetes Job. The operator must
    delete the StatefulSet."""
    namespace, driver = await harness.create_namespace(), names.driver_name(JOB)
    operator = await harness.start_operator(namespace)
    environment = harness.open_environment(namespace)
    await environment.create()
    await environment.wait_running()
    first = await harness.api.get("statefulsets", namespace, driver)
    await environment.edit(trigger=ONCE)
    await environment.wait_reason(Reason.COMPLETED, "True")

    wanted = await harness.api.get("jobs", namespace, driver)
    set_by_server = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
    metadata = {key: value for key, value in first["metadata"].items() if key not in set_by_server}
    late = await harness.api.create("statefulsets", namespace, {**first, "metadata": metadata, "status": {}})

    async def is_removed() -> bool:
        found = await harness.api.find("statefulsets", namespace, driver)
        jobs = await harness.api.list("jobs", namespace)
        return found is None and [job["metadata"]["uid"] for job in jobs] == [wanted["metadata"]["uid"]]

    await wait_until(is_removed, "the operator deletes the late StatefulSet and keeps the Kubernetes Job")
    await environment.wait_reason(Reason.COMPLETED, "True")
    assert late["metadata"]["uid"] != first["metadata"]["uid"]
    assert harness.drivers.find_overlaps(namespace) == []
    await operator.kill()
    await harness.node.stop_namespace(namespace)
