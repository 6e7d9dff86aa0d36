"""The only place that knows kopf: watches in, keys out.

kopf keeps the watches alive (bookmarks, reconnects, credentials) and the process (signals, graceful end). Its handlers here say
which job an event concerns, and nothing else: no finalizer, no annotation, no state of its own on anybody's object.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import kopf

from dedup_api import names
from dedup_operator.domain.annotations import OWN_SELECTOR
from dedup_operator.domain.types import Json, Key

Add = Callable[[Key], None]
RecordPodDeletion = Callable[[Key, Json], None]

PODS = ("", "v1", "pods")
CHILDREN = (
    ("apps", "v1", "statefulsets"),
    ("batch", "v1", "jobs"),
    ("batch", "v1", "cronjobs"),
    PODS,
    ("", "v1", "persistentvolumeclaims"),
    ("", "v1", "configmaps"),
)


def build_registry(add: Add, record_pod_deletion: RecordPodDeletion) -> kopf.OperatorRegistry:
    """Watches for DedupJobs and for their children; `add` puts a job into the work queue, `record_pod_deletion` takes a pod that goes."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def on_job(namespace: str | None, name: str | None, **_: Any) -> None:
        add(Key(namespace or "", name or ""))

    async def on_child(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        job = labels.get(names.LABEL_JOB)
        if namespace and job:
            add(Key(namespace, job))

    async def on_pod_deletion(namespace: str | None, labels: kopf.Labels, body: kopf.Body, **_: Any) -> None:
        job = labels.get(names.LABEL_JOB)
        if namespace and job and "deletionTimestamp" in body["metadata"]:
            record_pod_deletion(Key(namespace, job), dict(body))

    kopf.on.event(*PODS, registry=registry)(on_pod_deletion)  # before the look that it is for
    for group, version, plural in CHILDREN:
        kopf.on.event(group, version, plural, registry=registry)(on_child)
    return registry


def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """With the same library, and so by the same rules, as the operator's own client."""
    return kopf.login_via_client(**kwargs)


def build_kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # the operator has its own events
    settings.peering.standalone = True  # one replica; two would still be safe, see docs/decisions
    settings.scanning.disabled = True  # no rights on namespaces and CRDs are needed
    settings.watching.server_timeout = 300  # seconds; a watch is renewed before a proxy in between cuts it
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.reconnect_backoff = 1
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 60
    settings.networking.enforce_retry_after = True
    settings.process.ultimate_exiting_timeout = 20  # below the pod's grace period
    settings.queueing.idle_timeout = 1  # handlers only add a key; there is nothing to keep a worker for
    for group, version, plural in CHILDREN:
        settings.watching.label_selectors[group, version, plural] = OWN_SELECTOR
    return settings


async def run_kopf(add: Add, record_pod_deletion: RecordPodDeletion, namespaces: tuple[str, ...]) -> None:
    """Until the process is asked to end, or a watch fails for good."""
    await kopf.operator(
        registry=build_registry(add, record_pod_deletion),
        settings=build_kopf_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )


def configure_logging(log_format: str, level: str) -> None:
    # One line per watch event says nothing; what the operator did about it is logged where it is done.
    logging.getLogger("kopf.objects").setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    kopf.configure(log_format=kopf.LogFormat.JSON if log_format == "json" else kopf.LogFormat.FULL, verbose=level == "debug")
