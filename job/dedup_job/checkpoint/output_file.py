"""`sink.json`: the output's identity, which lives and dies with the checkpoint.

The name is random, so that a checkpoint made anew under the same job never meets the markers of the one before it, and a switch
to AtLeastOnce and back begins with markers of its own.
"""

from __future__ import annotations

import secrets

from pydantic import ValidationError

from dedup_api.exits import ExitCode
from dedup_api.model import ApiModel
from dedup_api.spec import Delivery
from dedup_job.checkpoint.layout import Checkpoint, write_durably
from dedup_job.checkpoint.volume import build_volume_error
from dedup_job.errors import JobError


class Output(ApiModel):
    """How the batches since the last change of delivery were written."""

    delivery: Delivery
    name: str
    """Key of the markers, and end of the transactional id."""
    marked: bool = False
    """The first marker was committed: from then on one must be there."""


def create_output(delivery: Delivery) -> Output:
    return Output(delivery=delivery, name=secrets.token_hex(8))


def read_output(checkpoint: Checkpoint) -> Output | None:
    """None for a checkpoint that nothing was written from."""
    try:
        return Output.model_validate_json(checkpoint.sink_file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        path = checkpoint.sink_file.relative_to(checkpoint.root)
        raise JobError(ExitCode.CHECKPOINT_DAMAGED, f"{path} cannot be understood: {error.errors()[0]['msg']}") from error
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error


def write_output(checkpoint: Checkpoint, output: Output) -> None:
    try:
        write_durably(checkpoint.sink_file, output.model_dump_json(by_alias=True).encode())
    except OSError as error:
        raise build_volume_error(checkpoint.root, error) from error
