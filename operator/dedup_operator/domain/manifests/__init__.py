"""Builds the driver's objects for a valid job. No builder can fail, and the same job always gives the same objects."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_operator.domain.annotations import APPLIED_GENERATION, APPLIED_SPEC
from dedup_operator.domain.driver_objects import Kind, choose_kind
from dedup_operator.domain.driver_settings import DriverSettings, render_spec
from dedup_operator.domain.manifests.claim import build_claim, build_record
from dedup_operator.domain.manifests.config_map import build_config_map
from dedup_operator.domain.manifests.job import build_cron_job, build_job
from dedup_operator.domain.manifests.pod import JobImage, build_pod_template
from dedup_operator.domain.manifests.service import build_service
from dedup_operator.domain.manifests.stateful_set import build_stateful_set
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob

__all__ = ["Children", "JobImage", "build_children"]


@dataclass(frozen=True)
class Children:
    """The objects for the next start of the driver."""

    claim: Json | None
    record: Json | None
    """For a claim of the user, which the operator does not create:
    the ConfigMap that records who uses the folder on it."""
    config_map: Json
    service: Json
    workload: Json
    """A StatefulSet, a Kubernetes Job or a CronJob."""


def build_children(job: ValidJob, settings: DriverSettings, image: JobImage) -> Children:
    config_map = build_config_map(job, settings)
    return Children(
        claim=build_claim(job, settings),
        record=build_record(job, settings),
        config_map=config_map,
        service=build_service(job),
        workload=_build_workload(job, settings, image, config_map["metadata"]["name"]),
    )


def _build_workload(job: ValidJob, settings: DriverSettings, image: JobImage, config_map: str) -> Json:
    template = build_pod_template(job, settings, image, config_map)
    annotations = {APPLIED_SPEC: render_spec(settings.spec), APPLIED_GENERATION: "1"}
    kind = choose_kind(job.spec)
    if kind is Kind.STATEFUL_SET:
        return build_stateful_set(job, template, annotations)
    if settings.schedule is None:
        return build_job(job, template, annotations)
    return build_cron_job(job, template, annotations, settings.schedule)
