"""Seeds in which users set, change and remove spec.checkpoint.existing, and the law about the keys that a driver has stored.

A generator of its own draws these events, so that the histories of the other seeds stay as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from dedup_api import names
from simulation.api_server import Json, Kind, copy_body
from simulation.checkpoint_location import SHARED_CLAIM, find_checkpoint_location

if TYPE_CHECKING:
    from simulation.driver import DriverProcess
    from simulation.run import Simulation

MOVE_PROBABILITY = 0.08


class Moves:
    """Of one seed."""

    def __init__(self, seed: int, *, possible: bool) -> None:
        self.rng = random.Random(f"{seed}: moved checkpoints")
        self.active = possible and self.rng.random() < MOVE_PROBABILITY
        self.places_with_keys: dict[str, set[str]] = {}
        """By the DedupJob's UID: the volumes, and folders on them, where its drivers have stored keys."""


def plan_moves(simulation: Simulation) -> None:
    """Also creates the claim. The moves come early, because a move is refused when keys are stored."""
    from simulation.users import Action

    simulation.create_shared_claim()
    for user in simulation.users:
        for _ in range(simulation.moves.rng.randint(1, 3)):
            simulation.loop.after(simulation.moves.rng.uniform(1.0, 40.0), user.act, Action.MOVE_CHECKPOINT)


def choose_place(rng: random.Random) -> Callable[[Json], None]:
    """An edit of a spec: the job's own claim, or a folder on the shared one."""
    folder = rng.choice([None, "m", "n"])
    place: Json = {} if folder is None else {"checkpoint": {"existing": {"claimName": SHARED_CLAIM, "subPath": folder}}}

    def edit(spec: Json) -> None:
        spec.pop("checkpoint", None)
        spec.update(copy_body(place))

    return edit


def is_refused_move(name: str, job: Json, edit: Callable[[Json], None]) -> bool:
    """As the CRD's rule: once the status says that keys are stored, the checkpoint stays where it is."""
    edited, status = copy_body(job["spec"]), job.get("status") or {}
    edit(edited)
    has_keys = (status.get("progress") or {}).get("batch") is not None or bool((status.get("checkpoint") or {}).get("keysStored"))
    return has_keys and find_checkpoint_location(edited, name) != find_checkpoint_location(job["spec"], name)


def record_first_keys(simulation: Simulation, process: DriverProcess) -> None:
    """Called when a driver stores the first keys on a volume. They must be the only ones that the DedupJob has on a claim
    that still exists."""
    from simulation.invariants import Invariant, Violation

    job_uid = _find_job_uid(simulation, process)
    if job_uid is None:
        return
    place = next(key for key, volume in simulation.volumes.items() if volume is process.volume)
    known = simulation.moves.places_with_keys.setdefault(job_uid, set())
    existing = {claim["metadata"]["uid"] for claim in simulation.server.scan(Kind.CLAIMS)}
    left = [other for other in known if other != place and other.split("/")[0] in existing]
    if left:
        name = process.config.name
        raise Violation(Invariant.KEYS_NOT_LEFT_BEHIND, f"{name} has keys in {left}, and stores its first keys in {place}")
    known.add(place)


def _find_job_uid(simulation: Simulation, process: DriverProcess) -> str | None:
    """The UID of the DedupJob whose workload created the driver's pod. None when pod or workload are gone."""
    body = simulation.server.peek(*simulation.nodes.runs[process.pod_uid].address)
    while body is not None:
        owner = next((owner for owner in body["metadata"].get("ownerReferences", []) if owner.get("controller")), None)
        if owner is None or owner["kind"] == names.KIND:
            return str(owner["uid"]) if owner is not None else None
        kinds = (Kind.STATEFUL_SETS, Kind.JOBS, Kind.CRON_JOBS)
        found = (simulation.server.peek(kind, body["metadata"]["namespace"], owner["name"]) for kind in kinds)
        body = next((item for item in found if item is not None and item["metadata"]["uid"] == owner["uid"]), None)
    return None
