"""The user actions on a DedupJob that the runs repeat. A scenario prepares its namespace without a fault, then acts;
only during the act does the proxy count writes and inject its fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dedup_api import names
from dedup_api.reasons import Reason
from fault_injection.api import Json
from fault_injection.drivers import REFUSED
from fault_injection.environment import JOB, Environment, wait_until

Step = Callable[[Environment], Awaitable[None]]
SHARED = "shared"
DRIVER, POD, CLAIM = names.driver_name(JOB), names.driver_pod_name(JOB), names.claim_name(JOB)


@dataclass(frozen=True)
class Scenario:
    name: str
    prepare: Step
    act: Step
    needs_resync: bool = False
    """The act contains a change that no watch reports: only the periodic reconciliation finds it."""
    pods: int | None = None
    """How many pods the scenario creates in all, if that number is part of what the operator promises: a driver that
    must keep running is one pod. None if the number may differ from run to run."""


async def do_nothing(environment: Environment) -> None:
    """For scenarios that need no preparation."""


async def start_job(environment: Environment) -> None:
    await environment.create()
    await environment.wait_running()


async def create(environment: Environment) -> None:
    await start_job(environment)


async def edit(environment: Environment) -> None:
    await environment.edit(watermark="20m")
    await environment.wait_running()


async def edit_twice(environment: Environment) -> None:
    """The second edit comes while the driver still finishes its batch because of the first."""
    await environment.edit(watermark="20m")
    await environment.edit(trigger={"processingTime": "3s"})
    await environment.wait_running()


async def block_and_revert(environment: Environment) -> None:
    await environment.edit(key={"fields": ["another"]})
    await environment.wait_reason(Reason.CHANGE_BLOCKED, "False")
    await environment.edit(key={"fields": ["id"]})
    await environment.wait_running()


async def suspend_and_resume(environment: Environment) -> None:
    await environment.edit(suspend=True)
    await environment.wait_reason(Reason.SUSPENDED, "True")
    await environment.edit(suspend=False)
    await environment.wait_running()


async def restart(environment: Environment) -> None:
    await environment.edit(restartNonce=1)
    await environment.wait_running()


async def delete_and_recreate(environment: Environment) -> None:
    """With reclaimPolicy Retain. The new job is created at once, while the garbage collector still deletes objects of
    the first."""
    await environment.delete()
    await environment.wait_deleted()
    await environment.create()
    await environment.wait_running()


async def grow_claim(environment: Environment) -> None:
    await environment.edit(checkpoint={"claim": {"size": "2Gi"}})
    await environment.wait_running()


async def delete_with_claim(environment: Environment) -> None:
    """The edit to reclaimPolicy Delete gives the claim an owner, so it is deleted together with the DedupJob."""
    await environment.edit(checkpoint={"reclaimPolicy": "Delete"})
    await environment.wait_running()
    await environment.delete()
    for plural, name in (("statefulsets", DRIVER), ("pods", POD), ("persistentvolumeclaims", CLAIM), ("services", DRIVER)):
        await environment.wait_deleted(plural, name)


async def delete_children(environment: Environment) -> None:
    """A user deletes the children one after the other."""
    for plural, name in (("services", DRIVER), ("configmaps", await environment.find_config_map())):
        await environment.wait_recreated(plural, name, await environment.delete(plural, name))
    for plural, name in (("pods", POD), ("statefulsets", DRIVER)):
        pod = await environment.api.get("pods", environment.namespace, POD)
        await environment.wait_recreated(plural, name, await environment.delete(plural, name))
        await environment.wait_new_driver(pod["metadata"]["uid"])
        await environment.wait_running()


async def create_conflicting_service(environment: Environment) -> None:
    ports = [{"name": "http", "port": 80}]
    service: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": DRIVER}, "spec": {"clusterIP": "None", "ports": ports}}
    await environment.api.create("services", environment.namespace, service)


async def create_beside_conflicting_service(environment: Environment) -> None:
    await environment.create()
    await environment.wait_reason(Reason.NAME_CONFLICT, "False")
    await environment.delete("services", DRIVER)
    await environment.wait_running()


async def store_invalid_spec(environment: Environment) -> None:
    """The current CRD would refuse this spec, so it is written to etcd directly, like one that an older CRD
    accepted."""

    def spoil(job: Json) -> None:
        job["spec"]["watermark"] = "ten minutes"

    await environment.etcd.edit(environment.namespace, JOB, spoil)
    await environment.wait_reason(Reason.INVALID_SPEC, "False")


async def store_invalid_spec_and_correct(environment: Environment) -> None:
    await store_invalid_spec(environment)
    await environment.edit(watermark="20m")
    await environment.wait_running()


async def store_invalid_spec_and_revert(environment: Environment) -> None:
    """The driver keeps running during all of it."""
    driver = await environment.get_driver()
    await store_invalid_spec(environment)
    assert await environment.find_condition("Stalled") == "True", "an invalid spec must set Stalled"
    assert await environment.get_driver() == driver, "an invalid spec must not stop or replace the driver"
    await environment.edit(watermark="10m")
    await environment.wait_running()
    assert await environment.find_condition("Stalled") is None
    assert await environment.get_driver() == driver, "reverting the invalid edit must not replace the driver"


async def give_up_and_correct(environment: Environment) -> None:
    """The driver refuses its settings, so the operator stops restarting it until the spec changes."""
    await environment.create(source={"bootstrapServers": "broker:9092", "topic": REFUSED})
    await environment.wait_reason(Reason.CONFIGURATION_REFUSED, "False")
    await environment.edit(source={"topic": "events"})
    await environment.wait_running()


ONCE: Json = {"processingTime": None, "availableNow": {}}
STREAMING: Json = {"processingTime": "2s", "availableNow": None}


async def run_once_twice(environment: Environment) -> None:
    await environment.create(trigger={"availableNow": {}})
    await environment.wait_reason(Reason.COMPLETED, "True")
    await environment.edit(restartNonce=1)
    await environment.wait_reason(Reason.COMPLETED, "True")


async def change_trigger_and_back(environment: Environment) -> None:
    await environment.edit(trigger=ONCE)
    await environment.wait_reason(Reason.COMPLETED, "True")
    await environment.edit(trigger=STREAMING)
    await environment.wait_running()


async def run_on_schedule(environment: Environment) -> None:
    """The schedule is not due while the test runs."""
    await environment.create(trigger={"availableNow": {"schedule": "0 0 29 2 *"}})
    await environment.wait_reason(Reason.SCHEDULED, "True")
    await environment.edit(watermark="20m")
    await environment.wait_reason(Reason.SCHEDULED, "True")
    await environment.edit(trigger=STREAMING)
    await environment.wait_running()


async def create_shared_claim(environment: Environment) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim: Json = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": SHARED}, "spec": spec}
    await environment.api.create("persistentvolumeclaims", environment.namespace, claim)


async def use_shared_claim(environment: Environment) -> None:
    await environment.create(checkpoint={"existing": {"claimName": SHARED}})
    await environment.wait_running()
    await environment.edit(watermark="20m")
    await environment.wait_running()


async def change_template_manually(environment: Environment) -> None:
    """A user changes the StatefulSet's template. The driver keeps running, and the operator repairs the template for
    the next start."""
    template = {"metadata": {"annotations": {"by-user": "true"}}}
    await environment.api.patch("statefulsets", environment.namespace, DRIVER, {"spec": {"template": template}})

    async def is_repaired() -> bool:
        found = await environment.api.get("statefulsets", environment.namespace, DRIVER)
        return "by-user" not in found["spec"]["template"]["metadata"]["annotations"]

    await wait_until(is_repaired, "the operator repairs the StatefulSet's template")
    await environment.wait_running()


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("create", do_nothing, create, pods=1),
        Scenario("edit", start_job, edit, pods=2),
        Scenario("two-edits", start_job, edit_twice),
        Scenario("blocked-edit", start_job, block_and_revert, pods=1),
        Scenario("suspend", start_job, suspend_and_resume, pods=2),
        Scenario("restart", start_job, restart, pods=2),
        Scenario("recreate", start_job, delete_and_recreate, pods=2),
        Scenario("grow-claim", start_job, grow_claim, pods=1),
        Scenario("delete-claim", start_job, delete_with_claim, pods=1),
        Scenario("delete-children", start_job, delete_children, needs_resync=True, pods=3),
        Scenario("name-conflict", create_conflicting_service, create_beside_conflicting_service, needs_resync=True, pods=1),
        Scenario("invalid", start_job, store_invalid_spec_and_correct, pods=2),
        Scenario("invalid-revert", start_job, store_invalid_spec_and_revert, pods=1),
        Scenario("give-up", do_nothing, give_up_and_correct),
        Scenario("once", do_nothing, run_once_twice, pods=2),
        Scenario("change-trigger", start_job, change_trigger_and_back),
        Scenario("schedule", do_nothing, run_on_schedule),
        Scenario("shared-claim", create_shared_claim, use_shared_claim, pods=2),
        Scenario("change-template", start_job, change_template_manually, pods=1),
    )
}
"""By name. Every scenario here runs in every test run."""
