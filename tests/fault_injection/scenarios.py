"""What people do to a DedupJob. Each scenario has a beginning that is left in peace and an act in which the proxy makes its mistake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dedup_api import names
from dedup_api.reasons import Reason
from fault_injection.api import Json
from fault_injection.drivers import REFUSED
from fault_injection.environment import JOB, Stage, wait_until

Step = Callable[[Stage], Awaitable[None]]
SHARED = "shared"
DRIVER, POD, CLAIM = names.driver_name(JOB), names.driver_pod_name(JOB), names.claim_name(JOB)


@dataclass(frozen=True)
class Scenario:
    name: str
    prepare: Step
    act: Step
    untold: bool = False
    """Something is done in it that no watch tells of: only a look finds it."""
    pods: int | None = None
    """How many there may ever have been, where that is a promise: a driver that is to be left alone is one, whatever else agrees."""


async def nothing(stage: Stage) -> None:
    """The act is the beginning."""


async def run_a_job(stage: Stage) -> None:
    await stage.create()
    await stage.wait_running()


async def create(stage: Stage) -> None:
    await run_a_job(stage)


async def edit(stage: Stage) -> None:
    await stage.edit(watermark="20m")
    await stage.wait_running()


async def edit_twice(stage: Stage) -> None:
    """The second edit comes while the driver still finishes its batch for the first."""
    await stage.edit(watermark="20m")
    await stage.edit(trigger={"processingTime": "3s"})
    await stage.wait_running()


async def block_and_revert(stage: Stage) -> None:
    await stage.edit(key={"fields": ["another"]})
    await stage.wait_reason(Reason.CHANGE_BLOCKED, "False")
    await stage.edit(key={"fields": ["id"]})
    await stage.wait_running()


async def suspend_and_resume(stage: Stage) -> None:
    await stage.edit(suspend=True)
    await stage.wait_reason(Reason.SUSPENDED, "True")
    await stage.edit(suspend=False)
    await stage.wait_running()


async def restart(stage: Stage) -> None:
    await stage.edit(restartNonce=1)
    await stage.wait_running()


async def delete_and_recreate(stage: Stage) -> None:
    """With Retain, and at once: what is left of the first job is still being removed."""
    await stage.delete()
    await stage.wait_gone()
    await stage.create()
    await stage.wait_running()


async def grow_the_claim(stage: Stage) -> None:
    await stage.edit(checkpoint={"claim": {"size": "2Gi"}})
    await stage.wait_running()


async def delete_with_the_claim(stage: Stage) -> None:
    """The policy is changed first: the claim gets an owner, and goes with it."""
    await stage.edit(checkpoint={"reclaimPolicy": "Delete"})
    await stage.wait_running()
    await stage.delete()
    for plural, name in (("statefulsets", DRIVER), ("pods", POD), ("persistentvolumeclaims", CLAIM), ("services", DRIVER)):
        await stage.wait_gone(plural, name)


async def delete_children(stage: Stage) -> None:
    """By hand, one after the other."""
    for plural, name in (("services", DRIVER), ("configmaps", await stage.find_config_map())):
        await stage.wait_replaced(plural, name, await stage.delete(plural, name))
    for plural, name in (("pods", POD), ("statefulsets", DRIVER)):
        pod = await stage.api.get("pods", stage.namespace, POD)
        await stage.wait_replaced(plural, name, await stage.delete(plural, name))
        await stage.wait_driver(pod["metadata"]["uid"])
        await stage.wait_running()


async def take_the_name(stage: Stage) -> None:
    ports = [{"name": "http", "port": 80}]
    foreign: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": DRIVER}, "spec": {"clusterIP": "None", "ports": ports}}
    await stage.api.create("services", stage.namespace, foreign)


async def meet_a_taken_name(stage: Stage) -> None:
    await stage.create()
    await stage.wait_reason(Reason.NAME_CONFLICT, "False")
    await stage.delete("services", DRIVER)
    await stage.wait_running()


async def become_invalid(stage: Stage) -> None:
    """Today's CRD would refuse such an edit; it was stored under an older one."""

    def spoil(job: Json) -> None:
        job["spec"]["watermark"] = "ten minutes"

    await stage.etcd.edit(stage.namespace, JOB, spoil)
    await stage.wait_reason(Reason.INVALID_SPEC, "False")


async def become_invalid_and_valid(stage: Stage) -> None:
    await become_invalid(stage)
    await stage.edit(watermark="20m")
    await stage.wait_running()


async def become_invalid_and_revert(stage: Stage) -> None:
    """The driver knows nothing of it."""
    driver = await stage.get_driver()
    await become_invalid(stage)
    assert await stage.find_condition("Stalled") == "True", "nothing happens until the spec changes"
    assert await stage.get_driver() == driver, "an edit that cannot be acted on leaves the driver alone"
    await stage.edit(watermark="10m")
    await stage.wait_running()
    assert await stage.find_condition("Stalled") is None
    assert await stage.get_driver() == driver, "the edit was taken back"


async def give_up_and_correct(stage: Stage) -> None:
    """The driver refuses its settings; the operator stops trying, until they change."""
    await stage.create(source={"bootstrapServers": "broker:9092", "topic": REFUSED})
    await stage.wait_reason(Reason.CONFIGURATION_REFUSED, "False")
    await stage.edit(source={"topic": "events"})
    await stage.wait_running()


ONCE: Json = {"processingTime": None, "availableNow": {}}
STREAMING: Json = {"processingTime": "2s", "availableNow": None}


async def run_once_and_again(stage: Stage) -> None:
    await stage.create(trigger={"availableNow": {}})
    await stage.wait_reason(Reason.COMPLETED, "True")
    await stage.edit(restartNonce=1)
    await stage.wait_reason(Reason.COMPLETED, "True")


async def turn_to_one_run_and_back(stage: Stage) -> None:
    await stage.edit(trigger=ONCE)
    await stage.wait_reason(Reason.COMPLETED, "True")
    await stage.edit(trigger=STREAMING)
    await stage.wait_running()


async def run_by_a_schedule(stage: Stage) -> None:
    """One that is not due while the test runs."""
    await stage.create(trigger={"availableNow": {"schedule": "0 0 29 2 *"}})
    await stage.wait_reason(Reason.SCHEDULED, "True")
    await stage.edit(watermark="20m")
    await stage.wait_reason(Reason.SCHEDULED, "True")
    await stage.edit(trigger=STREAMING)
    await stage.wait_running()


async def make_a_claim(stage: Stage) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim: Json = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": SHARED}, "spec": spec}
    await stage.api.create("persistentvolumeclaims", stage.namespace, claim)


async def use_a_shared_claim(stage: Stage) -> None:
    await stage.create(checkpoint={"existing": {"claimName": SHARED}})
    await stage.wait_running()
    await stage.edit(watermark="20m")
    await stage.wait_running()


async def change_by_hand(stage: Stage) -> None:
    """The StatefulSet's template; the driver goes on, and the next one has the operator's again."""
    template = {"metadata": {"annotations": {"by-hand": "true"}}}
    await stage.api.patch("statefulsets", stage.namespace, DRIVER, {"spec": {"template": template}})

    async def is_right() -> bool:
        found = await stage.api.get("statefulsets", stage.namespace, DRIVER)
        return "by-hand" not in found["spec"]["template"]["metadata"]["annotations"]

    await wait_until(is_right, "the template is set right")
    await stage.wait_running()


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("create", nothing, create, pods=1),
        Scenario("edit", run_a_job, edit, pods=2),
        Scenario("two-edits", run_a_job, edit_twice),
        Scenario("blocked-edit", run_a_job, block_and_revert, pods=1),
        Scenario("suspend", run_a_job, suspend_and_resume, pods=2),
        Scenario("restart", run_a_job, restart, pods=2),
        Scenario("recreate", run_a_job, delete_and_recreate, pods=2),
        Scenario("grow", run_a_job, grow_the_claim, pods=1),
        Scenario("delete-claim", run_a_job, delete_with_the_claim, pods=1),
        Scenario("children", run_a_job, delete_children, untold=True, pods=3),
        Scenario("name-conflict", take_the_name, meet_a_taken_name, untold=True, pods=1),
        Scenario("invalid", run_a_job, become_invalid_and_valid, pods=2),
        Scenario("invalid-revert", run_a_job, become_invalid_and_revert, pods=1),
        Scenario("give-up", nothing, give_up_and_correct),
        Scenario("once", nothing, run_once_and_again, pods=2),
        Scenario("turn", run_a_job, turn_to_one_run_and_back),
        Scenario("schedule", nothing, run_by_a_schedule),
        Scenario("shared-claim", make_a_claim, use_a_shared_claim, pods=2),
        Scenario("by-hand", run_a_job, change_by_hand, pods=1),
    )
}
"""By name. All of them are run; one that needs what is not built yet does not stand here."""
