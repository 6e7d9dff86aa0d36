"""The only module that imports kopf: it turns watch events into keys of DedupJobs.

kopf maintains the watches: bookmarks, reconnects and credentials. The handlers only find out which DedupJob an event
concerns. They write nothing: no finalizer, no annotation, no state of kopf.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

from dedup_api import names
from dedup_operator.domain.annotations import OWN_SELECTOR
from dedup_operator.domain.types import Json, Key
from dedup_operator.logs import set_up_handlers


@dataclass(frozen=True)
class Events:
    """What the watches tell. kopf calls both from a thread of its own."""

    add: Callable[[Key], None]
    """Puts a DedupJob into the work queue."""
    record_pod_deletion: Callable[[Key, Json], None]
    """Gets each pod that is being deleted."""


PODS = ("", "v1", "pods")
CHILDREN = (
    ("apps", "v1", "statefulsets"),
    ("batch", "v1", "jobs"),
    ("batch", "v1", "cronjobs"),
    PODS,
    ("", "v1", "persistentvolumeclaims"),
    ("", "v1", "configmaps"),
)


def build_registry(events: Events) -> kopf.OperatorRegistry:
    """Watches DedupJobs and their children."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def on_job(namespace: str | None, name: str | None, **_: Any) -> None:
        events.add(Key(namespace or "", name or ""))

    async def on_child(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        job = labels.get(names.LABEL_JOB)
        if namespace and job:
            events.add(Key(namespace, job))

    async def on_pod_deletion(namespace: str | None, labels: kopf.Labels, body: kopf.Body, **_: Any) -> None:
        job = labels.get(names.LABEL_JOB)
        if namespace and job and "deletionTimestamp" in body["metadata"]:
            events.record_pod_deletion(Key(namespace, job), dict(body))

    # Registered before on_child, so that the reconciliation knows the deletion.
    kopf.on.event(*PODS, registry=registry)(on_pod_deletion)
    for group, version, plural in CHILDREN:
        kopf.on.event(group, version, plural, registry=registry)(on_child)
    return registry


def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Finds the credentials with the same library, and by the same rules, as the operator's own client."""
    return kopf.login_via_client(**kwargs)


def build_kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # the operator writes its own events
    settings.peering.standalone = True  # the operator has its own Lease, see adapters/lease.py
    settings.scanning.disabled = True  # so that the operator needs no rights on namespaces and CRDs
    settings.watching.server_timeout = 300  # seconds; kopf renews a watch before a proxy closes it
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.reconnect_backoff = 1
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 60
    settings.networking.enforce_retry_after = True
    settings.process.ultimate_exiting_timeout = None  # kopf would kill the whole process because one watch has ended
    settings.queueing.idle_timeout = 1  # the handlers are short, so no worker has to stay
    for group, version, plural in CHILDREN:
        settings.watching.label_selectors[group, version, plural] = OWN_SELECTOR
    return settings


async def run_kopf(events: Events, namespace: str | None, started: threading.Event, stop: threading.Event) -> None:
    """Watches one namespace, or all of them if `namespace` is None, in the event loop of the calling thread. Ends when
    `stop` is set. Raises when a request fails for another reason than the network, for example because of missing
    rights."""
    await kopf.operator(
        registry=build_registry(events),
        settings=build_kopf_settings(),
        standalone=True,
        clusterwide=namespace is None,
        namespaces=[namespace] if namespace is not None else [],
        ready_flag=started,
        stop_flag=stop,
    )


def configure_logging(log_format: str, level: str) -> None:
    """`log_format`: text or json. `level`: debug, info, warning or error. kopf's own setting knows only debug and info."""
    as_text = log_format != "json"
    kopf.configure(log_format=kopf.LogFormat.FULL if as_text else kopf.LogFormat.JSON, verbose=level == "debug")
    set_up_handlers(level, as_text=as_text)
