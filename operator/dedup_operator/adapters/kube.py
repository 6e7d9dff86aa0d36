"""A small client of the API server: five calls on dictionaries.

Objects are dictionaries, as in YAML, because the client's generated models would only repeat what the manifest builders
say. This module translates all failures into the operator's own errors.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from dedup_api import names
from dedup_operator.domain.errors import ApiConflict, ApiRefused, ApiUnavailable
from dedup_operator.domain.types import Json

TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
"""An API server under load answers within seconds. After this time the operator retries in the next reconciliation."""
PAGE = 500


class Resource(Enum):
    """The path of the API group, and the plural name."""

    DEDUP_JOBS = (f"/apis/{names.API_VERSION}", names.PLURAL)
    STATEFUL_SETS = ("/apis/apps/v1", "statefulsets")
    JOBS = ("/apis/batch/v1", "jobs")
    CRON_JOBS = ("/apis/batch/v1", "cronjobs")
    PODS = ("/api/v1", "pods")
    CLAIMS = ("/api/v1", "persistentvolumeclaims")
    SERVICES = ("/api/v1", "services")
    CONFIG_MAPS = ("/api/v1", "configmaps")
    LEASES = ("/apis/coordination.k8s.io/v1", "leases")
    CORE_EVENTS = ("/api/v1", "events")
    EVENTS = ("/apis/events.k8s.io/v1", "events")


class AlreadyExists(ApiConflict):
    """An object of this kind and name exists already."""


@dataclass
class Kube:
    api: Any
    """`kubernetes.aio.client.ApiClient`, which has no types of its own."""
    check_write: Callable[[], None] = lambda: None
    """Called before every write except those of the Lease. Raises when this replica may not write now."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """Reads from the API server, not from a cache. None means that the object does not exist."""
        return await self._call("GET", _path(resource, namespace, name), missing_is_none=True)

    async def list(self, resource: Resource, namespace: str | None, **query: str) -> list[Json]:
        """All objects, page by page. `query`: labelSelector, fieldSelector."""
        items: list[Json] = []
        parameters = {**query, "limit": str(PAGE)}
        while True:
            page = await self._call("GET", _path(resource, namespace), parameters) or {}
            items.extend(page.get("items", []))
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            parameters["continue"] = token

    async def list_some(self, resource: Resource, namespace: str | None) -> None:
        """Asks for one object. Raises what `list` would raise, at a lower price."""
        await self._call("GET", _path(resource, namespace), {"limit": "1"})

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Raises AlreadyExists when the name is in use."""
        self._check(resource)
        return await self._call("POST", _path(resource, namespace), body=body) or {}

    async def replace(self, resource: Resource, body: Json, subresource: str = "") -> Json:
        """Raises ApiConflict when the object is not the one that was read (UID and resourceVersion)."""
        self._check(resource)
        metadata = body["metadata"]
        path = _path(resource, metadata["namespace"], metadata["name"])
        return await self._call("PUT", f"{path}/{subresource}" if subresource else path, body=body) or {}

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, *, version: str | None = None, foreground: bool = False
    ) -> None:
        """Deletes only the object with this UID. It is no error when the object is gone already.

        `version`: a resourceVersion; the deletion fails when the object has another one. `foreground`: the object
        exists until everything that it owns is gone.
        """
        self._check(resource)
        preconditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        body = {"preconditions": preconditions, "propagationPolicy": "Foreground" if foreground else "Background"}
        await self._call("DELETE", _path(resource, namespace, name), body=body, missing_is_none=True)

    def _check(self, resource: Resource) -> None:
        if resource is not Resource.LEASES:
            self.check_write()

    async def close(self) -> None:
        await self.api.close()

    async def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Json | None = None, *, missing_is_none: bool = False
    ) -> Json | None:
        path = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            request = await self.api.param_serialize(method, path, header_params=headers, body=body, auth_settings=["BearerToken"])
            response = await self.api.call_api(*request, _request_timeout=TIMEOUT)
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise ApiUnavailable(f"the API server does not answer: {error or type(error).__name__}") from error
        if response.status == 404 and missing_is_none:
            return None
        if response.status >= 300:
            raise _translate(response.status, _message(text), response.headers.get("Retry-After"))
        found: Json = json.loads(text)
        return found


def _path(resource: Resource, namespace: str | None, name: str | None = None) -> str:
    root, plural = resource.value
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{plural}" + (f"/{name}" if name else "")


def _message(text: bytes) -> tuple[str, str]:
    """The reason and the message of an error response."""
    try:
        status = json.loads(text)
        return str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        return "", text.decode(errors="replace")[:300]


def _translate(code: int, said: tuple[str, str], retry_after: str | None) -> Exception:
    reason, message = said
    if reason == "AlreadyExists":
        return AlreadyExists(message)
    if code in {404, 409, 410}:
        return ApiConflict(message or f"HTTP {code}")
    if code in {400, 403, 405, 413, 422}:
        return ApiRefused(message or f"HTTP {code}")
    return ApiUnavailable(f"HTTP {code}: {message}", float(retry_after) if retry_after and retry_after.isdigit() else None)


async def connect() -> Kube:
    """In a cluster it uses the pod's service account, elsewhere KUBECONFIG."""
    # The package has no types. One annotation for each name is enough for the type checker.
    load_file: Any = kubernetes_config.load_kube_config
    load_pod: Any = kubernetes_config.load_incluster_config
    settings: Any = kubernetes_client.Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
        load_pod(client_configuration=settings)
    else:
        path = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        await load_file(config_file=path, client_configuration=settings)
    api: Any = kubernetes_client.ApiClient(settings)
    api.user_agent = names.MANAGER
    return Kube(api)
