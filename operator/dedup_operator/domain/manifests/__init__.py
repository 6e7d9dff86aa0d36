"""The objects that a valid job asks for. One builder per kind; none can fail, and the same job gives the same objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dedup_operator.domain import annotations as marks
from dedup_operator.domain.driver_settings import DriverInputs, render_spec
from dedup_operator.domain.manifests.batch import build_cron_job, build_job
from dedup_operator.domain.manifests.claim import build_claim, build_record
from dedup_operator.domain.manifests.config_map import build_config_map
from dedup_operator.domain.manifests.pod import JobImage, build_pod_template
from dedup_operator.domain.manifests.service import build_service
from dedup_operator.domain.manifests.stateful_set import build_stateful_set
from dedup_operator.domain.validate import ValidJob

__all__ = ["Children", "JobImage", "build_children"]


@dataclass(frozen=True)
class Children:
    """As the next start of the driver needs them."""

    claim: dict[str, Any] | None
    record: dict[str, Any] | None
    """In place of the claim, where that is the user's."""
    config_map: dict[str, Any]
    service: dict[str, Any]
    workload: dict[str, Any]
    """A StatefulSet, a Job or a CronJob."""


def build_children(job: ValidJob, inputs: DriverInputs, image: JobImage) -> Children:
    config_map = build_config_map(job, inputs)
    return Children(
        claim=build_claim(job, inputs),
        record=build_record(job, inputs),
        config_map=config_map,
        service=build_service(job),
        workload=_build_workload(job, inputs, image, config_map["metadata"]["name"]),
    )


def _build_workload(job: ValidJob, inputs: DriverInputs, image: JobImage, config_map: str) -> dict[str, Any]:
    template = build_pod_template(job, inputs, image, config_map)
    annotations = {marks.APPLIED_SPEC: render_spec(inputs.spec), marks.APPLIED_GENERATION: "1"}
    if job.spec.trigger.available_now is None:
        return build_stateful_set(job, template, annotations)
    if inputs.schedule is None:
        return build_job(job, template, annotations)
    return build_cron_job(job, template, annotations, inputs.schedule)
