"""The simulated driver process: it takes the checkpoint's lock, runs micro-batches that commit, and ends with the real
exit codes.

The checkpoint is on the volume, so it outlives process, pod and node. Its lock is the last protection against a second
driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from dedup_api.changes import list_state_changes, state_identity
from dedup_api.driver_status import Blocked, DriverStatus, Phase
from dedup_api.exits import STOPPED_EARLY, ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.status import Progress
from simulation.api_server import render_time
from simulation.faults import Fault
from simulation.moves import record_first_keys

if TYPE_CHECKING:
    from simulation.run import Simulation

FAILING_CONSUMER_GROUP = "poison"
"""With this consumer group the driver always ends with an exit code after which a restart does not help."""
CRASH_CODES = (70, 69, 1, 137)
PERMANENT_EXIT_CODES = {ExitCode.CONFIGURATION, ExitCode.INVALID_RECORD, ExitCode.SOURCE_DATA_LOST}
"""The exit codes of the simulated driver after which a restart does not help."""


@dataclass
class Volume:
    """The checkpoint on a volume."""

    lock_owner: DriverProcess | None = None
    """The process that holds the lock."""
    state_config: JobConfig | None = None
    """The settings with which the first key was stored; None if no key is stored yet."""
    attempt: int = 0
    batches: int = 0


@lru_cache(maxsize=4096)
def parse_job_json(text: str) -> JobConfig:
    return JobConfig.model_validate_json(text)


class DriverProcess:
    """A driver process. It calls `on_exit` once, with its exit code and reason, also after `kill`."""

    def __init__(
        self,
        simulation: Simulation,
        pod_uid: str,
        text: str,
        volume: Volume,
        *,
        one_shot: bool,
        on_exit: Callable[[DriverProcess, int, str], None],
    ) -> None:
        self.simulation, self.pod_uid, self.text, self.volume, self.one_shot = simulation, pod_uid, text, volume, one_shot
        self.config = parse_job_json(text)
        self.on_exit = on_exit
        self.alive = True
        self.phase = Phase.STARTING
        self.waits_for_lock = False
        self.waits_for_broker = False
        self.stopping = False
        self.hangs = False
        self.unreachable_until = 0.0
        self.attempt: int | None = None
        self.committed = False
        self.all_read = False
        """Whether it has read the whole topic and therefore ends."""
        self.batch_since: float | None = None
        self.started_at = simulation.loop.now
        self._last_status: tuple[tuple[object, ...], DriverStatus] | None = None
        self.batches_left = simulation.rng.randint(2, 3)
        self._at(simulation.rng.uniform(1.0, 6.0), self._take_lock)
        simulation.processes.append(self)

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        def run() -> None:
            if self.alive:
                action()

        self.simulation.loop.after(delay, run)

    def _take_lock(self) -> None:
        volume = self.volume
        if volume.lock_owner is not None:
            self.phase, self.waits_for_lock = Phase.WAITING, True
            self._at(3.0, self._take_lock)
            return
        volume.lock_owner = self
        self.waits_for_lock = False
        volume.attempt += 1
        self.attempt = volume.attempt
        if volume.state_config is not None and list_state_changes(volume.state_config, self.config):
            self._end(ExitCode.CONFIGURATION, Reason.CONFIGURATION_REFUSED)
            return
        if self.simulation.faults.occurs(Fault.BROKER_MISSING):
            self.phase, self.waits_for_broker = Phase.WAITING, True
            self._at(self.simulation.rng.uniform(1.0, 40.0), self._begin_work)
            return
        self._begin_work()

    def _begin_work(self) -> None:
        self.waits_for_broker = False
        if self.stopping:
            return
        self.phase = Phase.RUNNING
        self._draw_failure()
        self._at(self.simulation.rng.uniform(0.3, 3.0), self._begin_batch)

    def _draw_failure(self) -> None:
        rng, faults = self.simulation.rng, self.simulation.faults
        if self.config.source.consumer_group == FAILING_CONSUMER_GROUP:
            self._at(rng.uniform(0.5, 8.0), lambda: self._end(ExitCode.INVALID_RECORD, Reason.INVALID_RECORD))
        elif faults.occurs(Fault.DRIVER_PERMANENT):
            self._at(rng.uniform(0.5, 20.0), lambda: self._end(ExitCode.SOURCE_DATA_LOST, Reason.SOURCE_DATA_LOST))
        elif faults.occurs(Fault.DRIVER_CRASH):
            self._at(rng.uniform(0.1, 20.0), lambda: self._end(rng.choice(CRASH_CODES), ""))
        elif faults.occurs(Fault.DRIVER_HANGS):
            self._at(rng.uniform(0.1, 20.0), self._hang)
        elif faults.has(Fault.DRIVER_UNREACHABLE) and rng.random() < 0.4:
            faults.record(Fault.DRIVER_UNREACHABLE)
            self._at(rng.uniform(0.1, 20.0), lambda: self._stop_answering(rng.uniform(5.0, 90.0)))

    def _hang(self) -> None:
        self.hangs = True
        self._at(60.0, self.kill)

    def _stop_answering(self, seconds: float) -> None:
        self.unreachable_until = self.simulation.loop.now + seconds

    def _begin_batch(self) -> None:
        if self.stopping or self.hangs:
            return
        self.batch_since = self.simulation.loop.now
        if self.volume.state_config is None:
            self.volume.state_config = self.config
            record_first_keys(self.simulation, self)
            self.simulation.log(f"{self.config.name} stores its first keys, with identity {state_identity(self.config)}")
        self._at(self.simulation.rng.uniform(0.2, 4.0), self._commit_batch)

    def _commit_batch(self) -> None:
        if self.hangs:
            return
        self.batch_since = None
        self.committed = True
        self.volume.batches += 1
        self.batches_left -= 1
        if self.stopping:
            self._end_as_asked()
        elif self.batches_left > 0:
            self._at(self.simulation.rng.uniform(0.1, 3.0), self._begin_batch)
        elif self.one_shot:
            self.all_read = True
            self._end(ExitCode.DONE, "")

    def terminate(self) -> None:
        """SIGTERM: the driver finishes the running batch, then ends."""
        if not self.alive or self.stopping:
            return
        self.stopping = True
        self.phase = Phase.STOPPING
        if self.hangs or self.simulation.faults.occurs(Fault.SLOW_STOP):
            self.hangs = True
        elif self.batch_since is None:
            self._at(self.simulation.rng.uniform(0.05, 0.5), self._end_as_asked)

    def _end_as_asked(self) -> None:
        self._end(STOPPED_EARLY if self.one_shot else ExitCode.DONE, "")

    def kill(self) -> None:
        self._end(137, "")

    def _end(self, code: int, reason: str) -> None:
        if not self.alive:
            return
        self.alive = False
        if self.volume.lock_owner is self:
            self.volume.lock_owner = None
        self.simulation.processes.remove(self)
        self.simulation.record_exit(self, code)
        self.on_exit(self, code, reason)

    @property
    def answers(self) -> bool:
        return self.alive and not self.hangs and self.simulation.loop.now >= self.unreachable_until

    def describe(self) -> DriverStatus:
        """The answer to /status. Returns the same object while nothing changes, which lets the function cache work."""
        volume = self.volume
        state = (
            self.phase,
            self.waits_for_lock,
            self.waits_for_broker,
            self.attempt,
            self.committed,
            self.batch_since,
            volume.state_config is None,
            volume.batches,
        )
        if self._last_status is None or self._last_status[0] != state:
            self._last_status = (state, self._describe())
        return self._last_status[1]

    def _describe(self) -> DriverStatus:
        return DriverStatus(
            phase=self.phase,
            blocked_by=self._describe_block(),
            attempt=self.attempt,
            generation=1,
            checkpoint_has_state=self.attempt is not None and self.volume.state_config is not None,
            committed_in_this_run=self.committed,
            reports_keys_at_end=True,
            batch_running_since=render_time(self.batch_since) if self.batch_since is not None else None,
            pending_since=render_time(self.started_at) if self.phase is Phase.STARTING else None,
            progress=self._describe_progress(),
        )

    def _describe_block(self) -> Blocked | None:
        if self.waits_for_lock:
            return Blocked(reason=Reason.CHECKPOINT_LOCKED, message="Another process holds the lock.")
        return Blocked(reason=Reason.SOURCE_UNAVAILABLE, message="No broker answers.") if self.waits_for_broker else None

    def _describe_progress(self) -> Progress:
        batches = self.volume.batches if self.attempt is not None else 0
        return Progress(batch=batches - 1 if batches else None, rows_in=10 * batches, rows_out=8 * batches, unique=8 * batches)
