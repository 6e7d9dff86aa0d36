"""The driver's settings. Immutable and named by its content: a running driver never sees another file than it started with."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any

from dedup_api import names
from dedup_operator.domain import annotations as marks
from dedup_operator.domain.driver_settings import DriverInputs, render_config
from dedup_operator.domain.validate import ValidJob

CONFIG_KEY = PurePath(names.CONFIG_FILE).name


def build_config_map(job: ValidJob, inputs: DriverInputs) -> dict[str, Any]:
    content = render_config(inputs.config)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": marks.build_metadata(job, names.config_map_name(job.name, digest)),
        "immutable": True,
        "data": {CONFIG_KEY: content},
    }
