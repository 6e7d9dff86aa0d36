"""Names that the operator, the driver, the chart and the tests must agree on.

A child's name is a function of the job's name alone: the name is the lock that keeps a job from having two drivers.
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
"""Characters of a DedupJob's name. The StatefulSet controller labels pods with `<name>-driver-<10 characters>`, and a
label value ends at 63."""

LABEL_JOB = f"{GROUP}/job"
"""On every child: the DedupJob it belongs to. Selects what the operator watches."""
LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "dedup-operator"
DRIVER_APP = "dedup-driver"

CONTAINER = "driver"
HTTP_PORT = 8080
HTTP_PORT_NAME = "http"
USER_ID = 10001
"""The driver's user and group; the image has a passwd entry with a home for it."""

CONFIG_DIR = "/etc/dedup"
CONFIG_FILE = f"{CONFIG_DIR}/job.json"
CHECKPOINT_DIR = "/checkpoint"
TERMINATION_LOG = "/dev/termination-log"


def driver_name(job: str) -> str:
    """What runs the driver, and the headless Service in front of it."""
    return f"{job}-driver"


def driver_pod_name(job: str) -> str:
    return f"{driver_name(job)}-0"


def claim_name(job: str) -> str:
    return f"{job}-checkpoint"


def folder_name(job: str, sub_path: str | None) -> str:
    """The job's folder on a claim of the user's. `sub_path`: as in `spec.checkpoint.existing`."""
    return sub_path or job


def record_name(claim: str, folder: str) -> str:
    """The ConfigMap that says whose checkpoint a folder of a shared claim is: one name for one folder, whoever asks."""
    return f"checkpoint-{hashlib.sha256(f'{claim}/{folder}'.encode()).hexdigest()[:16]}"


def config_map_name(job: str, digest: str) -> str:
    """`digest`: the first characters of the content's hash. ConfigMaps are immutable, a new content is a new object."""
    return f"{job}-job-{digest}"
