"""The ConfigMap with the driver's settings. It is immutable, and its name contains the hash of its content.

A running driver therefore always sees the file with which it started.
"""

from __future__ import annotations

import hashlib

from dedup_api import names
from dedup_operator.domain.driver_objects import CONFIG_KEY
from dedup_operator.domain.driver_settings import DriverSettings, render_config
from dedup_operator.domain.manifests.metadata import build_metadata
from dedup_operator.domain.types import Json
from dedup_operator.domain.validate import ValidJob


def build_config_map(job: ValidJob, settings: DriverSettings) -> Json:
    content = render_config(settings.config)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(job, names.config_map_name(job.name, digest)),
        "immutable": True,
        "data": {CONFIG_KEY: content},
    }
