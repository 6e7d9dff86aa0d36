"""The operator's settings: one flag each, with an environment variable of the same name as its default."""

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
    """Empty: all of the cluster."""
    log_format: str
    log_level: str
    port: int
    resync_seconds: float
    workers: int
    lease: str
    """Empty: this is the only replica."""
    lease_namespace: str


def parse_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Flags win over the environment. Exits with a message for anything that is missing or illegible."""
    parser = build_parser(environment)
    found = parser.parse_args(arguments)
    if not found.job_image:
        parser.error(f"--job-image (or {PREFIX}JOB_IMAGE) is needed: the image that drivers run")
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
        description="Runs DedupJobs. Outside of a cluster it uses KUBECONFIG.",
        epilog=f"Each flag can be given as an environment variable too: --job-image as {PREFIX}JOB_IMAGE; lists separated by commas.",
    )
    add = parser.add_argument
    add("--job-image", default=default("job-image", ""), help="image that drivers run")
    add("--job-image-pull-policy", default=default("job-image-pull-policy", "IfNotPresent"), choices=["Always", "IfNotPresent", "Never"])
    secrets = several("job-image-pull-secret")
    add("--job-image-pull-secret", action="append", default=secrets, metavar="NAME", help="Secret of a DedupJob's namespace; repeatable")
    add("--namespace", action="append", default=several("namespace"), help="namespace to watch; repeatable; all when absent")
    add("--log-format", default=default("log-format", "text"), choices=["text", "json"])
    add("--log-level", default=default("log-level", "info"), choices=["debug", "info", "warning", "error"])
    add("--port", type=int, default=int(default("port", "8081")), help="port of /metrics and /healthz")
    add(
        "--resync-seconds",
        type=float,
        default=float(default("resync-seconds", "15")),
        help="seconds between two looks at a job and its driver when nothing happens",
    )
    add("--workers", type=int, default=int(default("workers", "8")), help="jobs looked at side by side")
    add(
        "--lease",
        default=default("lease", ""),
        metavar="NAME",
        help="Lease that says which of several replicas works",
    )
    add("--lease-namespace", default=default("lease-namespace", "default"), metavar="NAME", help="namespace of the Lease")
    return parser
