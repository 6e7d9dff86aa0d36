"""The API server, as five calls on dictionaries.

Objects go in and out as they are in YAML: the generated models of the client would be a second description of what the
builders already say. What can go wrong is translated here, once, into the operator's own errors.
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
"""An API server under load answers in seconds; one that takes longer is asked again in the next round."""
PAGE = 500


class Resource(Enum):
    """Path of the API group, and plural."""

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
    """Another object has the name."""


@dataclass
class Kube:
    api: Any
    """`kubernetes.aio.client.ApiClient`, which has no types of its own."""
    check_write: Callable[[], None] = lambda: None
    """Called before every write but that of the lease itself; raises where this replica may not write now."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """A live read: None means that the API server says it does not exist."""
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

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Raises AlreadyExists where the name is taken."""
        self._check(resource)
        return await self._call("POST", _path(resource, namespace), body=body) or {}

    async def replace(self, resource: Resource, body: Json, subresource: str = "") -> Json:
        """Raises ApiConflict unless the object is still the one that was read (UID and resourceVersion)."""
        self._check(resource)
        metadata = body["metadata"]
        path = _path(resource, metadata["namespace"], metadata["name"])
        return await self._call("PUT", f"{path}/{subresource}" if subresource else path, body=body) or {}

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, *, version: str | None = None, foreground: bool = False
    ) -> None:
        """Only the object with this UID; one that is gone already is fine. `version`: its resourceVersion, where it must not have changed
        since it was read. `foreground`: it stays until what it owns is gone."""
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
    """(reason, message) of a `Status` answer."""
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
    """With the pod's service account in a cluster, else with KUBECONFIG."""
    # Without types in the package; one name each, so that the checker does not have to be told at every call.
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
