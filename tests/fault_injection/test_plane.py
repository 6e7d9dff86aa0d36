"""The plane itself: a test's own namespace, an operator without a proxy, and what is known of it afterwards."""

from __future__ import annotations

import pytest

from dedup_api import names
from dedup_api.reasons import Reason
from fault_injection.environment import JOB, wait_until
from fault_injection.harness import Plane
from fault_injection.scenarios import ONCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_job_runs_without_a_proxy_and_is_counted(plane: Plane) -> None:
    namespace = await plane.create_namespace()
    operator = await plane.start_operator(namespace)
    stage = plane.open_stage(namespace)
    await stage.create()
    await stage.wait_running()
    await stage.edit(restartNonce=1)
    await stage.wait_running()

    pods = await plane.api.list("pods", namespace)
    assert [pod["metadata"]["name"] for pod in pods] == [names.driver_pod_name(JOB)]
    assert [run.attempt for run in plane.drivers.runs if run.namespace == namespace] == [1, 2]
    assert plane.drivers.find_overlaps(namespace) == []
    assert (
        plane.census.count(namespace)["pods"],
        plane.census.count(namespace)["persistentvolumeclaims"],
    ) == (2, 1)

    assert not await operator.has_ended()
    await operator.kill()
    await plane.node.forget(namespace)


async def test_a_create_that_comes_after_a_change_of_the_trigger_is_undone(plane: Plane) -> None:
    """Of an operator that stood still with it: a creation names no version, and the names of two kinds do not exclude one another."""
    namespace, driver = await plane.create_namespace(), names.driver_name(JOB)
    operator = await plane.start_operator(namespace)
    stage = plane.open_stage(namespace)
    await stage.create()
    await stage.wait_running()
    first = await plane.api.get("statefulsets", namespace, driver)
    await stage.edit(trigger=ONCE)
    await stage.wait_reason(Reason.COMPLETED, "True")

    wanted = await plane.api.get("jobs", namespace, driver)
    of_server = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
    metadata = {key: value for key, value in first["metadata"].items() if key not in of_server}
    late = await plane.api.create("statefulsets", namespace, {**first, "metadata": metadata, "status": {}})

    async def is_undone() -> bool:
        found = await plane.api.find("statefulsets", namespace, driver)
        jobs = await plane.api.list("jobs", namespace)
        return found is None and [job["metadata"]["uid"] for job in jobs] == [wanted["metadata"]["uid"]]

    await wait_until(is_undone, "the wanted one of the two is left")
    await stage.wait_reason(Reason.COMPLETED, "True")
    assert late["metadata"]["uid"] != first["metadata"]["uid"]
    assert plane.drivers.find_overlaps(namespace) == []
    await operator.kill()
    await plane.node.forget(namespace)
