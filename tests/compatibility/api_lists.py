"""Lists of the API package: what stands in manifests, conditions, `job.json` and on `/status`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compatibility.lists import List, list_defaults, list_enum_values, list_optional, list_types, text, walk_schema
from dedup_api import names
from dedup_api.crd import build_crd, build_structural_schema
from dedup_api.driver_status import DriverStatus, TerminationMessage
from dedup_api.exits import EXITS, STOPPED_EARLY, ExitCode
from dedup_api.faults import Fault
from dedup_api.job_config import JobConfig
from dedup_api.reasons import Reason
from dedup_api.status import ConditionType


def _build_schema() -> dict[str, Any]:
    schema: dict[str, Any] = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


COLLECTORS: dict[str, Callable[[], List]] = {
    "API fields": lambda: list_types(_build_schema()),
    "API defaults": lambda: list_defaults(_build_schema()),
    "API enum values": lambda: list_enum_values(_build_schema()),
    "optional API fields": lambda: list_optional(_build_schema()),
    "Kubernetes names": lambda: _list_kubernetes_names(),
    "columns of kubectl get": lambda: _list_columns(),
    "condition types": lambda: dict.fromkeys(ConditionType, ""),
    "reasons": lambda: dict.fromkeys(Reason, ""),
    "reasons of invalid records": lambda: dict.fromkeys(Fault, ""),
    "exit codes": lambda: _list_exit_codes(),
    "keys of job.json": lambda: list_types(build_structural_schema(JobConfig)),
    "values in job.json": lambda: list_enum_values(build_structural_schema(JobConfig)),
    "optional keys of job.json": lambda: list_optional(build_structural_schema(JobConfig)),
    "keys of /status": lambda: list_types(build_structural_schema(DriverStatus)),
    "values on /status": lambda: {**list_enum_values(build_structural_schema(DriverStatus)), **_list_blocking_reasons()},
    "keys of the termination message": lambda: list_types(build_structural_schema(TerminationMessage)),
    "names of child objects": lambda: _list_child_names(),
}


def list_required_fields() -> set[str]:
    """Fields that every DedupJob must set. One that is new refuses the objects of the previous version."""
    return {path for path, _, required in walk_schema(_build_schema()) if required and path.startswith("spec")}


def _list_kubernetes_names() -> List:
    spec = build_crd()["spec"]
    versions = {f"version {version['name']}": "" for version in spec["versions"]}
    return {"group": spec["group"], "scope": spec["scope"], **versions, **{f"names.{name}": text(it) for name, it in spec["names"].items()}}


def _list_columns() -> List:
    columns = build_crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    return {column["name"]: f"{column['type']} {column['jsonPath']}" for column in columns}


def _list_exit_codes() -> List:
    listed = {f"{int(code)} {meaning.reason}": text(meaning.permanent) for code, found in EXITS.items() for meaning in found}
    return {f"{int(ExitCode.DONE)} done": "", f"{STOPPED_EARLY} stopped early": "", **listed}


def _list_child_names() -> List:
    return {
        "workload and Service": names.driver_name("<job>"),
        "pod of a StatefulSet": names.driver_pod_name("<job>"),
        "claim": names.claim_name("<job>"),
        "ConfigMap with job.json": names.config_map_name("<job>", "<digest>"),
        "folder on a shared claim": names.folder_name("<job>", None),
        "ConfigMap of a folder on a shared claim": names.record_name("shared", "orders"),
    }


def _list_blocking_reasons() -> List:
    """The schema has only a text there, because an operator accepts the reasons of a newer driver."""
    return {f"blockedBy.reason: {reason}": "" for reason in Reason}
