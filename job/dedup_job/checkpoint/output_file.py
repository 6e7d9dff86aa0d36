"""`sink.json`: the identity of the output, which belongs to one checkpoint.

The name is random. So a new checkpoint of the same job never finds the markers of the checkpoint before it, and a
change to AtLeastOnce and back starts with new markers.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from pydantic import ValidationError

from dedup_api.exits import ExitCode
from dedup_api.model import ApiModel
from dedup_api.spec import Delivery
from dedup_job.checkpoint.durable_files import write_durably
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.volume import translate_volume_errors
from dedup_job.errors import JobError


class Output(ApiModel):
    """How the driver wrote the batches since the last change of delivery."""

    delivery: Delivery
    name: str
    """The key of the markers, and the last part of the transactional id."""
    marked: bool = False
    """Whether the first marker was committed. From then on a missing marker is an error."""


def create_output(delivery: Delivery) -> Output:
    return Output(delivery=delivery, name=secrets.token_hex(8))


@dataclass(frozen=True)
class OutputFile:
    """Reads and writes `sink.json`."""

    layout: CheckpointLayout

    def read(self) -> Output | None:
        """None for a checkpoint from which no batch was written yet."""
        try:
            with translate_volume_errors(self.layout.root):
                return self._read_file()
        except ValidationError as error:
            path = self.layout.describe(self.layout.output_file)
            raise JobError(
                ExitCode.CHECKPOINT_DAMAGED, f"{path} cannot be understood: {error.errors()[0]['msg']}; restore the file from a backup"
            ) from error

    def _read_file(self) -> Output | None:
        try:
            return Output.model_validate_json(self.layout.output_file.read_bytes())
        except FileNotFoundError:
            return None

    def write(self, output: Output) -> None:
        with translate_volume_errors(self.layout.root):
            write_durably(self.layout.output_file, output.model_dump_json(by_alias=True).encode())
