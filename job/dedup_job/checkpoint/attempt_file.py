"""`attempt`: how often drivers were started on this volume.

A newer driver has replaced every driver whose number is lower than the one in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dedup_api.exits import ExitCode
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError

_REMEDY = (
    "it counts the starts of drivers on this volume. Restore it from a backup, or write a number into it that is higher than the lost one"
)


@dataclass(frozen=True)
class AttemptFile:
    layout: CheckpointLayout

    def read(self) -> int:
        """The number of the newest start, or 0 on a new volume.

        JobError with CHECKPOINT_DAMAGED for a missing or unreadable file on a volume that a job uses. `write_durably`
        writes the file, so no crash of a driver causes that. A count that began at 0 again would let an older driver
        that is still alive pass for the newer one.
        """
        with translate_volume_errors(self.layout.root):
            try:
                content = self.layout.attempt_file.read_bytes().strip()
            except FileNotFoundError:
                if not any(self.layout.root.glob("generation-*/job.json")):
                    return 0
                raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"the file attempt is missing: {_REMEDY}") from None
        if not content.isdigit():
            raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"the file attempt holds no number: {_REMEDY}")
        return int(content)

    def increment(self) -> int:
        """Adds 1 and returns the number of this start.

        It also creates the folders of the checkpoint generation, which shows that the volume is writable.
        """
        with translate_volume_errors(self.layout.root):
            self.layout.spark.mkdir(parents=True, exist_ok=True)
            attempt = self.read() + 1
            write_durably(self.layout.write_test_file, b"")
            write_durably(self.layout.attempt_file, f"{attempt}\n".encode())
        return attempt


def was_never_used(root: Path) -> bool:
    """Whether the folder can be read, and no driver has ever counted its start in it, so that it has no keys."""
    try:
        names = [path.name for path in root.iterdir()]
    except OSError:
        return False
    return "attempt" not in names and not any(root.glob("generation-*/job.json"))
