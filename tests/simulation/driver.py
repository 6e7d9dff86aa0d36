"""The driver's process: takes the checkpoint's lock, works in batches that commit, and ends as the real one does.

What lives on the volume outlives process, pod and node. The lock is the last fence, and `Volume.holder` is who has it.
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
from simulation.api_server import render_moment
from simulation.faults import Fault

if TYPE_CHECKING:
    from simulation.world import World

POISON = "poison"
"""A consumer group that the driver never gets along with: a permanent end, until the spec changes."""
CRASH_CODES = (70, 69, 1, 137)


@dataclass
class Volume:
    """The checkpoint."""

    holder: DriverProcess | None = None
    begun_with: JobConfig | None = None
    attempt: int = 0
    batches: int = 0


@lru_cache(maxsize=4096)
def parse_job_json(text: str) -> JobConfig:
    return JobConfig.model_validate_json(text)


class DriverProcess:
    """`ended` is told the exit code and the reason once; after `kill` too."""

    def __init__(
        self, world: World, pod_uid: str, text: str, volume: Volume, *, finite: bool, ended: Callable[[DriverProcess, int, str], None]
    ) -> None:
        self.world, self.pod_uid, self.text, self.volume, self.finite = world, pod_uid, text, volume, finite
        self.config = parse_job_json(text)
        self.ended = ended
        self.alive = True
        self.phase = Phase.STARTING
        self.locked_out = False
        self.stopping = False
        self.hangs = False
        self.silent_until = 0.0
        self.attempt: int | None = None
        self.committed = False
        self.through = False
        """It has taken all there was, and ends by itself."""
        self.batch_since: float | None = None
        self.since = world.loop.now
        self._told: tuple[tuple[object, ...], DriverStatus] | None = None
        self.left = world.rng.randint(2, 3)
        self._at(world.rng.uniform(1.0, 6.0), self._take_lock)
        world.processes.append(self)

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        def run() -> None:
            if self.alive:
                action()

        self.world.loop.after(delay, run)

    def _take_lock(self) -> None:
        volume = self.volume
        if volume.holder is not None:
            self.phase, self.locked_out = Phase.WAITING, True
            self._at(3.0, self._take_lock)
            return
        volume.holder = self
        self.locked_out = False
        volume.attempt += 1
        self.attempt = volume.attempt
        if volume.begun_with is not None and list_state_changes(volume.begun_with, self.config):
            self._end(ExitCode.CONFIGURATION, Reason.CONFIGURATION_REFUSED)
            return
        self.phase = Phase.RUNNING
        self._draw_fate()
        self._at(self.world.rng.uniform(0.3, 3.0), self._begin_batch)

    def _draw_fate(self) -> None:
        rng, faults = self.world.rng, self.world.faults
        if self.config.source.consumer_group == POISON:
            self._at(rng.uniform(0.5, 8.0), lambda: self._end(ExitCode.INVALID_RECORD, Reason.INVALID_RECORD))
        elif faults.strikes(Fault.DRIVER_PERMANENT):
            self._at(rng.uniform(0.5, 20.0), lambda: self._end(ExitCode.SOURCE_DATA_LOST, Reason.SOURCE_DATA_LOST))
        elif faults.strikes(Fault.DRIVER_CRASH):
            self._at(rng.uniform(0.1, 20.0), lambda: self._end(rng.choice(CRASH_CODES), ""))
        elif faults.strikes(Fault.DRIVER_HANGS):
            self._at(rng.uniform(0.1, 20.0), self._hang)
        elif faults.has(Fault.DRIVER_SILENT) and rng.random() < 0.4:
            faults.note(Fault.DRIVER_SILENT)
            self._at(rng.uniform(0.1, 20.0), lambda: self._be_silent(rng.uniform(5.0, 90.0)))

    def _hang(self) -> None:
        self.hangs = True
        self._at(60.0, self.kill)

    def _be_silent(self, seconds: float) -> None:
        self.silent_until = self.world.loop.now + seconds

    def _begin_batch(self) -> None:
        if self.stopping or self.hangs:
            return
        self.batch_since = self.world.loop.now
        if self.volume.begun_with is None:
            self.volume.begun_with = self.config
            self.world.log(f"the checkpoint of {self.config.name} begins as {state_identity(self.config)}")
        self._at(self.world.rng.uniform(0.2, 4.0), self._commit_batch)

    def _commit_batch(self) -> None:
        if self.hangs:
            return
        self.batch_since = None
        self.committed = True
        self.volume.batches += 1
        self.left -= 1
        if self.stopping:
            self._end_as_asked()
        elif self.left > 0:
            self._at(self.world.rng.uniform(0.1, 3.0), self._begin_batch)
        elif self.finite:
            self.through = True
            self._end(ExitCode.DONE, "")

    def terminate(self) -> None:
        """SIGTERM: the batch that runs is finished first."""
        if not self.alive or self.stopping:
            return
        self.stopping = True
        self.phase = Phase.STOPPING
        if self.hangs or self.world.faults.strikes(Fault.SLOW_STOP):
            self.hangs = True
        elif self.batch_since is None:
            self._at(self.world.rng.uniform(0.05, 0.5), self._end_as_asked)

    def _end_as_asked(self) -> None:
        self._end(STOPPED_EARLY if self.finite else ExitCode.DONE, "")

    def kill(self) -> None:
        self._end(137, "")

    def _end(self, code: int, reason: str) -> None:
        if not self.alive:
            return
        self.alive = False
        if self.volume.holder is self:
            self.volume.holder = None
        self.world.processes.remove(self)
        self.world.note_exit(self, code)
        self.ended(self, code, reason)

    @property
    def answers(self) -> bool:
        return self.alive and not self.hangs and self.world.loop.now >= self.silent_until

    def describe(self) -> DriverStatus:
        """The same object while there is nothing new."""
        volume = self.volume
        known = (self.phase, self.locked_out, self.attempt, self.committed, self.batch_since, volume.begun_with is None, volume.batches)
        if self._told is None or self._told[0] != known:
            self._told = (known, self._describe())
        return self._told[1]

    def _describe(self) -> DriverStatus:
        return DriverStatus(
            phase=self.phase,
            blocked_by=Blocked(reason=Reason.CHECKPOINT_LOCKED, message="Another process holds the lock.") if self.locked_out else None,
            attempt=self.attempt,
            generation=1,
            checkpoint_begun=self.attempt is not None and self.volume.begun_with is not None,
            committed_in_this_run=self.committed,
            batch_running_since=render_moment(self.batch_since) if self.batch_since is not None else None,
            pending_since=render_moment(self.since) if self.phase is Phase.STARTING else None,
            progress=self._describe_progress(),
        )

    def _describe_progress(self) -> Progress:
        batches = self.volume.batches if self.attempt is not None else 0
        return Progress(batch=batches - 1 if batches else None, rows_in=10 * batches, rows_out=8 * batches, unique=8 * batches)
