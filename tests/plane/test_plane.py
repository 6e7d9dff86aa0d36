"""The plane itself: a test's own namespace, an operator without a proxy, and what is known of it afterwards."""

from __future__ import annotations

import pytest

from dedup_api import names
from plane.plane import Plane
from plane.stage import JOB

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
    assert (plane.census.count(namespace)["pods"], plane.census.count(namespace)["persistentvolumeclaims"]) == (2, 1)

    assert not await operator.has_ended()
    await operator.kill()
    await plane.node.forget(namespace)
