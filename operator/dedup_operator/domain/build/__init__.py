"""The objects that a valid job asks for. One builder per kind; none can fail, and the same job gives the same objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dedup_operator.domain.build.claim import build_claim
from dedup_operator.domain.build.config_map import build_config_map
from dedup_operator.domain.build.service import build_service
from dedup_operator.domain.build.stateful_set import JobImage, build_stateful_set
from dedup_operator.domain.inputs import DriverInputs
from dedup_operator.domain.validate import ValidJob

__all__ = ["Children", "JobImage", "build_children"]


@dataclass(frozen=True)
class Children:
    """As the next start of the driver needs them."""

    claim: dict[str, Any]
    config_map: dict[str, Any]
    service: dict[str, Any]
    stateful_set: dict[str, Any]


def build_children(job: ValidJob, inputs: DriverInputs, image: JobImage) -> Children:
    config_map = build_config_map(job, inputs)
    return Children(
        claim=build_claim(job, inputs),
        config_map=config_map,
        service=build_service(job),
        stateful_set=build_stateful_set(job, inputs, image, config_map["metadata"]["name"]),
    )
