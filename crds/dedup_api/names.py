"""Names that the operator, the driver, the chart and the tests share.

The name of a child object depends only on the name of the DedupJob. The API server allows one object per name, so a job
cannot get two workloads of one kind.
"""

from __future__ import annotations

import hashlib

GROUP = "streamdedup.dev"
VERSION = "v1alpha1"
KIND = "DedupJob"
PLURAL = "dedupjobs"
SINGULAR = "dedupjob"
SHORT_NAME = "dj"
API_VERSION = f"{GROUP}/{VERSION}"
CRD_NAME = f"{PLURAL}.{GROUP}"

MAX_NAME_LENGTH = 45
"""Maximum length of a DedupJob's name. The StatefulSet controller labels pods with `<name>-driver-<10 characters>`, and
a label value has at most 63 characters."""

LABEL_JOB = f"{GROUP}/job"
"""Label of every child object: the name of its DedupJob."""
LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "dedup-operator"
DRIVER_APP = "dedup-driver"

CONTAINER = "driver"
HTTP_PORT = 8080
HTTP_PORT_NAME = "http"
USER_ID = 10001
"""User and group of the driver. The job image has a passwd entry with a home folder for this user."""

CONFIG_DIR = "/etc/dedup"
CONFIG_FILE = f"{CONFIG_DIR}/job.json"
CHECKPOINT_DIR = "/checkpoint"
TERMINATION_LOG = "/dev/termination-log"


def driver_name(job: str) -> str:
    """Name of the workload that runs the driver, and of its headless Service."""
    return f"{job}-driver"


def driver_pod_name(job: str) -> str:
    return f"{driver_name(job)}-0"


def claim_name(job: str) -> str:
    return f"{job}-checkpoint"


def folder_name(job: str, sub_path: str | None) -> str:
    """Name of the job's folder on a claim that the user created. `sub_path` is spec.checkpoint.existing.subPath."""
    return sub_path or job


def record_name(claim: str, folder: str) -> str:
    """Name of the ConfigMap that says which job owns a folder on a shared claim. It is the same for every job that uses
    the folder."""
    return f"checkpoint-{hashlib.sha256(f'{claim}/{folder}'.encode()).hexdigest()[:16]}"


def config_map_name(job: str, digest: str) -> str:
    """`digest`: the first characters of the content's hash. The ConfigMaps are immutable, so new content needs a new
    object."""
    return f"{job}-job-{digest}"
