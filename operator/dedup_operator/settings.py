"""The operator's settings. Each has a flag and an environment variable, which gives the default of the flag."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dedup_operator.domain.manifests import JobImage

PREFIX = "DEDUP_OPERATOR_"


@dataclass(frozen=True)
class Settings:
    job_image: JobImage
    namespaces: tuple[str, ...]
    """Empty: all namespaces."""
    log_format: str
    log_level: str
    port: int
    resync_seconds: float
    workers: int
    lease: str
    """Name of the Lease. Empty: there is only one replica."""
    lease_namespace: str


def parse_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Flags have priority over the environment.

    Ends the process with a message when a value is missing or unreadable.
    """
    parser = build_parser(environment)
    found = parser.parse_args(arguments)
    if not found.job_image:
        parser.error(f"set --job-image (or {PREFIX}JOB_IMAGE) to the image that drivers run")
    return Settings(
        job_image=JobImage(found.job_image, found.job_image_pull_policy, tuple(found.job_image_pull_secret)),
        namespaces=tuple(found.namespace),
        log_format=found.log_format,
        log_level=found.log_level,
        port=found.port,
        resync_seconds=found.resync_seconds,
        workers=found.workers,
        lease=found.lease,
        lease_namespace=found.lease_namespace,
    )


def build_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    def default(flag: str, otherwise: str) -> str:
        return environment.get(PREFIX + flag.strip("-").replace("-", "_").upper(), otherwise)

    def several(flag: str) -> list[str]:
        return [part.strip() for part in default(flag, "").split(",") if part.strip()]

    parser = argparse.ArgumentParser(
        prog="dedup_operator",
        description="Runs and supervises the drivers of DedupJobs. Outside a cluster it uses KUBECONFIG.",
        epilog=f"Each flag has an environment variable: --job-image has {PREFIX}JOB_IMAGE. Lists are separated by commas.",
    )
    add = parser.add_argument
    add("--job-image", default=default("job-image", ""), help="image that drivers run (required)")
    add("--job-image-pull-policy", default=default("job-image-pull-policy", "IfNotPresent"), choices=["Always", "IfNotPresent", "Never"])
    secrets = several("job-image-pull-secret")
    add(
        "--job-image-pull-secret",
        action="append",
        default=secrets,
        metavar="NAME",
        help="pull Secret in the namespace of each DedupJob (repeatable)",
    )
    add("--namespace", action="append", default=several("namespace"), help="namespace to watch (repeatable; default: all namespaces)")
    add("--log-format", default=default("log-format", "text"), choices=["text", "json"])
    add("--log-level", default=default("log-level", "info"), choices=["debug", "info", "warning", "error"])
    add("--port", type=int, default=int(default("port", "8081")), help="port of /metrics, /healthz and /readyz")
    add(
        "--resync-seconds",
        type=float,
        default=float(default("resync-seconds", "15")),
        help="seconds between two reconciliations of a DedupJob when no event arrives",
    )
    add("--workers", type=int, default=int(default("workers", "8")), help="number of DedupJobs that are reconciled at the same time")
    add(
        "--lease",
        default=default("lease", ""),
        metavar="NAME",
        help="Lease that decides which replica is active (needed for several replicas)",
    )
    add("--lease-namespace", default=default("lease-namespace", "default"), metavar="NAME", help="namespace of the Lease")
    return parser
