"""Runs one seed: builds the simulated cluster, starts operators and users, injects faults, and checks the invariants.

All random numbers come from two generators that are seeded with the seed. They are drawn in the order in which things
happen. So the same seed with the same code always gives the same history.
"""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from dedup_api.reasons import Reason
from dedup_operator.domain.decision import Refuse
from dedup_operator.domain.manifests import JobImage
from simulation.api_server import ApiServer, Change, Event, Json, Kind
from simulation.checkpoint_location import SHARED_CLAIM
from simulation.desired_state import find_deviation
from simulation.driver import PERMANENT_EXIT_CODES, DriverProcess, Volume
from simulation.faults import Fault, Faults, draw_faults
from simulation.fighting_controller import FightingController
from simulation.function_cache import cached_functions
from simulation.garbage_collector import GarbageCollector
from simulation.invariants import Invariant, Violation, check_change, check_processes, check_write
from simulation.loop import VirtualTimeLoop
from simulation.moves import Moves, plan_moves
from simulation.nodes import Nodes
from simulation.operators import OperatorProcess
from simulation.users import NAMESPACE, USER_ACTOR, Action, User
from simulation.workload_controllers import WorkloadControllers
from simulation.writes import Write

queue_module: Any = import_module("dedup_operator.queue")
reconcile_module: Any = import_module("dedup_operator.reconcile")

CONVERGENCE_SECONDS = 2400.0
"""After the faults end, the desired state must be reached within this time. It is several times kubelet's longest
restart delay."""
IDLE_SECONDS = 140.0
"""The operator counts as finished when it has written nothing for so long. It is longer than the operator waits until a
driver counts as recovered or until it reports progress again, plus one resync."""
STABILITY_SECONDS = 300.0
"""After it has finished, the operator must write nothing for so long."""
CHECK_INTERVAL_SECONDS = 10.0
UPGRADE_SECONDS = 80.0
"""Enough for the new operator to start and to reconcile every job more than once."""
CHUNK = 100
"""A test runs so many seeds."""
COVERAGE_SEEDS = 600
"""Two tests count what happens in so many seeds. They run in one process with the tests of these seeds, and use the same
runs."""
SHARED_CLAIM_PROBABILITY = 0.1
"""Probability that the jobs of a seed share a claim. Such a seed has two jobs and takes nearly twice the CPU time."""
UPGRADE_PROBABILITY = 0.15
FINAL_UPGRADE_PROBABILITY = 0.06
"""Probability of an upgrade after everything is stable. Such a seed takes half as much CPU time again."""


@dataclass
class Coverage:
    """Counts what happened in one or more seeds. A test checks that everything that can happen did happen."""

    faults: Counter[Fault] = field(default_factory=Counter)
    actions: Counter[Action] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    crashes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (write, "before" or "after"): how often the operator died before or after a write of this kind."""
    refusals: Counter[Reason] = field(default_factory=Counter)
    upgrades: int = 0

    def add(self, other: Coverage) -> None:
        self.faults.update(other.faults)
        self.actions.update(other.actions)
        self.decisions.update(other.decisions)
        self.crashes.update(other.crashes)
        self.refusals.update(other.refusals)
        self.upgrades += other.upgrades


class Simulation:
    """The simulated cluster of one seed, with everything that runs in it. `run` raises Violation when an invariant is
    violated."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.rng = random.Random(seed)
        self.extra_rng = random.Random(f"{seed}: shared claims and upgrades")
        """A second generator, so that shared claims and upgrades do not change the draws of everything else."""
        self.shares_claim = self.extra_rng.random() < SHARED_CLAIM_PROBABILITY
        self.moves: Moves = Moves(seed, possible=not self.shares_claim)
        self.claim_recreated = False
        self.image = JobImage("job:1")
        """The job image of each operator that starts from now on."""
        self.history: list[str] | None = [] if trace else None
        self.coverage = Coverage()

        self.loop = VirtualTimeLoop(lambda: check_processes(self))
        self.faults = Faults(self.rng, draw_faults(self.rng), self.coverage.faults)
        self.resync_seconds = self.rng.choice((15.0, 30.0, 60.0, 60.0))
        self.server = ApiServer(lambda: self.loop.now)
        self.processes: list[DriverProcess] = []
        self.volumes: dict[str, Volume] = {}
        self.force_deleted_volumes: list[Volume] = []
        """Checkpoints of pods that a user force-deleted while the driver ran. There only the lock keeps a second driver
        out."""
        self.permanently_failed: set[str] = set()
        """UIDs of DedupJobs whose driver ended with an exit code after which a restart does not help."""
        self.completed_runs: dict[str, tuple[str, float]] = {}
        """By DedupJob: job.json and start time of the last run that read the whole topic."""
        self.observed_generations: dict[str, int] = {}
        self.operators: dict[str, OperatorProcess] = {}
        self._dead_operators: list[OperatorProcess] = []
        """Referenced until the seed ends: else Python would finalize their frozen tasks while the seed still runs."""
        self.quota_exceeded_until = 0.0
        self.repairs: dict[str, list[float]] = {}
        """By UID of a StatefulSet that the fighting controller has changed: when the operator changed it back."""
        self.last_write = 0.0
        self.last_driver_exit = 0.0
        """When a driver last ended without being asked to. The operator reports this exit, so a write after it is no
        violation."""
        self.nodes = Nodes(self)
        self.workload_controllers = WorkloadControllers(self)
        self.garbage_collector = GarbageCollector(self)
        self.fighting_controller = FightingController(self)
        self.server.listeners += [
            self._on_change,
            self.workload_controllers.on_change,
            self.nodes.on_change,
            self.garbage_collector.on_change,
            self.fighting_controller.on_change,
        ]
        one_job = self.rng.random() < 0.8 and not self.shares_claim
        self.users = [User(self, name) for name in ("a", "b")[: 1 if one_job else 2]]

    def log(self, text: str) -> None:
        if self.history is not None:
            self.history.append(f"{self.loop.now:9.3f}  {text}")

    def run(self) -> None:
        until = self.rng.uniform(30.0, 110.0)
        with cached_functions(), self._patch_operator():
            self.start_operator("one")
            if self.faults.has(Fault.TWO_OPERATORS):
                self.faults.record(Fault.TWO_OPERATORS)
                self.start_operator("two")
            for user in self.users:
                user.plan(until)
            self._plan_faults(until)
            self._plan_extra_events(until)
            self.loop.run_until(until)
            self._end_faults()
            self._wait_for_desired_state()
            self._check_stability()
            if self.extra_rng.random() < FINAL_UPGRADE_PROBABILITY:
                self._check_final_upgrade()
        self.loop.close()

    def _wait_for_desired_state(self) -> None:
        """Compares with the desired state only when the operator is idle: the comparison takes more CPU time than ten
        virtual seconds."""
        limit = self.loop.now + CONVERGENCE_SECONDS
        while self.loop.now < limit:
            self.loop.run_until(self.loop.now + CHECK_INTERVAL_SECONDS)
            if self.loop.now - self.last_write >= IDLE_SECONDS and not self._find_deviations():
                return
        deviation = self._find_deviations()
        if deviation:
            raise Violation(Invariant.DESIRED_STATE_REACHED, deviation)
        raise Violation(Invariant.DESIRED_STATE_STABLE, f"the operator still writes {CONVERGENCE_SECONDS:.0f} s after the last fault")

    def _check_stability(self) -> None:
        written, began = self.last_write, self.loop.now
        self.loop.run_until(self.loop.now + max(STABILITY_SECONDS, 3 * self.resync_seconds))
        if self.last_write != written and self.last_driver_exit <= began:
            raise Violation(Invariant.DESIRED_STATE_STABLE, f"the operator wrote at {self.last_write:.3f}, although nothing had changed")
        deviation = self._find_deviations()
        if deviation:
            raise Violation(Invariant.DESIRED_STATE_STABLE, deviation)

    def _check_final_upgrade(self) -> None:
        """An upgrade of the operator must stop no driver, and each later start must take the new job image."""
        running = {process.pod_uid for process in self.processes}
        self._upgrade("job:3")
        self.loop.run_until(self.loop.now + UPGRADE_SECONDS)
        if {process.pod_uid for process in self.processes} != running:
            now = sorted(process.pod_uid for process in self.processes)
            raise Violation(Invariant.UPGRADE_STOPS_NO_DRIVER, f"pods with a driver before: {sorted(running)}, after: {now}")
        for user in self.users:
            user.increase_nonce()
        self._wait_for_desired_state()
        for process in self.processes:
            address = self.nodes.runs[process.pod_uid].address
            pod = self.server.peek(*address)
            image = pod["spec"]["containers"][0]["image"] if pod is not None else ""
            if process.pod_uid not in running and image != self.image.reference:
                raise Violation(Invariant.STARTS_USE_CURRENT_IMAGE, f"{address} has {image} instead of {self.image.reference}")

    def _upgrade(self, image: str) -> None:
        self.log(f"the operator is upgraded to {image}")
        self.coverage.upgrades += 1
        self.image = JobImage(image)
        for operator in self.operators.values():
            operator.crash()

    def _plan_extra_events(self, until: float) -> None:
        extra_rng, loop = self.extra_rng, self.loop
        if self.shares_claim:
            loop.after(extra_rng.choice((0.0, 0.0, 0.0, extra_rng.uniform(0.0, 30.0))), self.create_shared_claim)
            if extra_rng.random() < 0.3:
                loop.after(extra_rng.uniform(30.0, until), self._recreate_shared_claim)
        if self.moves.active:
            plan_moves(self)
        if extra_rng.random() < UPGRADE_PROBABILITY:
            for image in ("job:2", "job:1")[: extra_rng.randint(1, 2)]:
                loop.after(extra_rng.uniform(1.0, until), self._upgrade, image)

    def create_shared_claim(self) -> None:
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
        self.server.create(Kind.CLAIMS, NAMESPACE, {"metadata": {"name": SHARED_CLAIM}, "spec": spec}, USER_ACTOR)

    def _recreate_shared_claim(self) -> None:
        """A user deletes the claim with all keys, and creates a new one of the same name when no pod uses the old one
        any more."""
        self.log("users: the shared claim is deleted, to be recreated")
        self.claim_recreated = True
        self.server.delete(Kind.CLAIMS, NAMESPACE, SHARED_CLAIM, actor=USER_ACTOR)
        self._create_shared_claim_when_free()

    def _create_shared_claim_when_free(self) -> None:
        if self.server.peek(Kind.CLAIMS, NAMESPACE, SHARED_CLAIM) is None:
            self.create_shared_claim()
        elif self.faults.active:
            self.loop.after(2.0, self._create_shared_claim_when_free)

    def _find_deviations(self) -> str:
        return "; ".join(f"{user.name}: {text}" for user in self.users if (text := find_deviation(self, user)))

    @contextmanager
    def _patch_operator(self) -> Iterator[None]:
        """Makes the queue's jitter depend on the seed, turns off the heartbeat of its liveness probe, and records each
        decision."""
        decide: Callable[..., Any] = reconcile_module.decide
        before = (queue_module.random, queue_module.HEARTBEAT_SECONDS)

        def decide_and_record(*arguments: Any) -> Any:
            decision = decide(*arguments)
            self.coverage.decisions[type(decision).__name__] += 1
            if isinstance(decision, Refuse):
                self.coverage.refusals[decision.reason] += 1
            if self.history is not None:
                self.log(f"decision: {decision}")
            return decision

        reconcile_module.decide, queue_module.random, queue_module.HEARTBEAT_SECONDS = decide_and_record, self.rng, 3600.0
        try:
            yield
        finally:
            reconcile_module.decide = decide
            queue_module.random, queue_module.HEARTBEAT_SECONDS = before

    def _plan_faults(self, until: float) -> None:
        rng, loop, faults = self.rng, self.loop, self.faults

        def schedule_at_random(fault: Fault, times: int, action: Callable[[], object]) -> None:
            if faults.has(fault):
                for _ in range(rng.randint(1, times)):
                    loop.after(rng.uniform(1.0, until), lambda: action() if faults.active else None)

        user = rng.choice(self.users)
        schedule_at_random(Fault.OPERATOR_KILLED, 3, self._kill_operator)
        schedule_at_random(Fault.CLOCK_FORWARD, 2, lambda: self._move_clock(Fault.CLOCK_FORWARD, rng.choice((30.0, 600.0, 86400.0))))
        schedule_at_random(Fault.CLOCK_BACK, 2, lambda: self._move_clock(Fault.CLOCK_BACK, -rng.choice((30.0, 600.0, 86400.0))))
        schedule_at_random(Fault.NODE_OUTAGE, 2, lambda: self.nodes.disconnect(rng.choice(self.nodes.nodes), rng.uniform(5.0, 60.0)))
        schedule_at_random(Fault.FORCE_DELETION, 2, user.force_delete_pods)
        schedule_at_random(Fault.DRAIN, 3, user.drain)
        schedule_at_random(Fault.EVICTION, 2, user.evict)
        schedule_at_random(Fault.IMAGE_MISSING, 2, lambda: self._remove_image(rng.uniform(5.0, 40.0)))
        schedule_at_random(Fault.QUOTA_EXCEEDED, 2, lambda: self._exceed_quota(rng.uniform(2.0, 30.0)))
        if faults.has(Fault.QUOTA_EXCEEDED):
            self._exceed_quota(rng.uniform(2.0, 15.0))

    def _kill_operator(self) -> None:
        self.faults.record(Fault.OPERATOR_KILLED)
        self.rng.choice(list(self.operators.values())).crash()

    def _move_clock(self, fault: Fault, seconds: float) -> None:
        self.faults.record(fault)
        operator = self.rng.choice(list(self.operators.values()))
        operator.clock_error += seconds
        self.log(f"the clock of {operator.name} jumps by {seconds:.0f} s")

    def _remove_image(self, seconds: float) -> None:
        self.nodes.image_missing_until = self.loop.now + seconds

    def _exceed_quota(self, seconds: float) -> None:
        self.quota_exceeded_until = self.loop.now + seconds

    def _end_faults(self) -> None:
        self.log("faults end")
        self.faults.active = False
        for operator in self.operators.values():
            operator.clock_error = 0.0
        for node in self.nodes.nodes:
            node.reachable_at = min(node.reachable_at, self.loop.now)

    def start_operator(self, name: str) -> None:
        old = self.operators.get(name)
        if old is not None:
            self._dead_operators.append(old)
        self.operators[name] = OperatorProcess(self, name)
        if old is not None and self.faults.active:
            self.operators[name].clock_error = old.clock_error

    def record_crash(self, write: Write, when: str) -> None:
        self.coverage.crashes[f"{write.verb} {write.kind}", when] += 1
        self.log(f"the operator dies {when} this write: {write}")

    def record_exit(self, process: DriverProcess, code: int) -> None:
        if not process.stopping:
            self.last_driver_exit = self.loop.now
        if process.all_read:
            self.completed_runs[process.config.name] = (process.text, process.started_at)
        if code in PERMANENT_EXIT_CODES:
            job = self.server.peek(Kind.DEDUP_JOBS, process.config.namespace, process.config.name)
            if job is not None:
                self.permanently_failed.add(job["metadata"]["uid"])

    def has_pod(self, uid: str) -> bool:
        address = self.nodes.runs[uid].address
        pod = self.server.peek(Kind.PODS, address.namespace, address.name)
        return pod is not None and pod["metadata"]["uid"] == uid

    def begin_write(self, process: OperatorProcess, write: Write) -> Json | None:
        self.last_write = self.loop.now
        address = write.address
        return self.server.peek(address.kind, address.namespace, address.name) if address is not None else None

    def end_write(self, process: OperatorProcess, write: Write, old: Json | None, answer: Json) -> None:
        address = write.address
        new = self.server.peek(address.kind, address.namespace, address.name) if address is not None else None
        if address is not None and write.verb != "delete":
            process.kube.last_reads[address] = new
        self.log(f"{process.name}: {write}")
        check_write(self, write, old, new, process.reconciler.image.reference)

    def _on_change(self, change: Change) -> None:
        if self.history is not None and change.actor != USER_ACTOR:
            self._describe(change)
        check_change(self, change)
        for operator in self.operators.values():
            operator.on_change(change)

    def _describe(self, change: Change) -> None:
        body = change.new or change.old or {}
        details = [f"{change.actor}: {change.event} {change.address} ({body['metadata']['uid']})"]
        if "replicas" in body.get("spec", {}):
            details.append(f"replicas {body['spec']['replicas']}")
        if change.address.kind is Kind.PODS:
            states = [entry["state"] for entry in body.get("status", {}).get("containerStatuses", [])]
            details.append(f"{body['status']['phase']} {states}")
        if change.address.kind is Kind.DEDUP_JOBS and change.event is Event.MODIFIED:
            ready: Json = next(iter(body["status"].get("conditions", [])), {})
            details.append(f"Ready {ready.get('status')} {ready.get('reason')}, generation {body['status']['observedGeneration']}")
        if "deletionTimestamp" in body["metadata"]:
            details.append("being deleted")
        self.log(", ".join(details))


def run_seed(seed: int) -> Coverage:
    """Runs one seed. Raises Violation when an invariant is violated."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    finally:
        simulation.loop.close()
    return simulation.coverage


def run_seeds(seeds: Iterable[int]) -> Iterator[tuple[int, Coverage | Violation]]:
    """Yields each seed with its coverage or with its violation. Python's garbage collector runs only between seeds,
    which saves time."""
    gc.disable()
    try:
        for seed in seeds:
            yield seed, _run_seed_and_catch(seed)
            gc.collect(0)
    finally:
        gc.enable()


def _run_seed_and_catch(seed: int) -> Coverage | Violation:
    try:
        return run_seed(seed)
    except Violation as violation:
        return violation
