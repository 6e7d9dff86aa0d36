"""The API client of the tests and of the simulated node. They do not use the operator's client, because that is under
test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from dedup_api import names

Json = dict[str, Any]

GROUPS: Mapping[str, str] = {
    "namespaces": "/api/v1",
    "pods": "/api/v1",
    "services": "/api/v1",
    "configmaps": "/api/v1",
    "persistentvolumeclaims": "/api/v1",
    "events": "/api/v1",
    "statefulsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "cronjobs": "/apis/batch/v1",
    "storageclasses": "/apis/storage.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    names.PLURAL: f"/apis/{names.API_VERSION}",
}
"""By plural: the path of its API group."""
MERGE_PATCH = "application/merge-patch+json"
RELIST_PAUSE = 0.2


class ApiError(Exception):
    """The API server answered with a status that is not a success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


def build_path(plural: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return "/".join(part for part in (f"{GROUPS[plural]}{scope}/{plural}", name, subresource) if part)


@dataclass
class Api:
    """A small client. Objects are dictionaries, and a kind is named by its plural."""

    server: str
    ssl: ssl.SSLContext
    session: aiohttp.ClientSession = field(init=False)

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(limit=0, ssl=self.ssl)
        self.session = aiohttp.ClientSession(self.server, connector=connector, trust_env=False, read_bufsize=1 << 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Json:
        """Raises ApiError unless the answer is a success."""
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, path, data=data, headers={"Content-Type": content_type}) as response:
            text = await response.text()
            if response.status >= 300:
                raise ApiError(response.status, text[:500])
            found: Json = json.loads(text)
            return found

    async def create(self, plural: str, namespace: str | None, body: Json, name: str | None = None, subresource: str | None = None) -> Json:
        return await self.call("POST", build_path(plural, namespace, name, subresource), body)

    async def find(self, plural: str, namespace: str | None, name: str) -> Json | None:
        """Returns None when the object does not exist."""
        try:
            return await self.call("GET", build_path(plural, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def get(self, plural: str, namespace: str | None, name: str) -> Json:
        found = await self.find(plural, namespace, name)
        assert found is not None, f"{plural} {name} does not exist in {namespace}"
        return found

    async def list(self, plural: str, namespace: str | None = None) -> list[Json]:
        found = await self.call("GET", build_path(plural, namespace))
        return [{"kind": found["kind"].removesuffix("List"), **item} for item in found["items"]]

    async def patch(self, plural: str, namespace: str | None, name: str, change: Json, subresource: str | None = None) -> Json:
        """Sends `change` as a merge patch."""
        return await self.call("PATCH", build_path(plural, namespace, name, subresource), change, MERGE_PATCH)

    async def delete(self, plural: str, namespace: str | None, name: str, *, uid: str | None = None, grace: int | None = None) -> None:
        """Deletes the object; the garbage collector deletes its children in the background.

        It is no error when the object does not exist or has another UID than `uid`."""
        options: Json = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self.call("DELETE", build_path(plural, namespace, name), options)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    async def watch(self, plural: str) -> AsyncIterator[tuple[str, Json]]:
        """Yields (ADDED, MODIFIED or DELETED; object) for all namespaces, without an end. After a lost connection it
        lists again and yields every object as ADDED."""
        while True:
            try:
                async for event in self._list_and_watch(plural):
                    yield event
            except (aiohttp.ClientError, ApiError, TimeoutError):
                await asyncio.sleep(RELIST_PAUSE)

    async def _list_and_watch(self, plural: str) -> AsyncIterator[tuple[str, Json]]:
        path = build_path(plural)
        listed = await self.call("GET", path)
        for item in listed["items"]:
            yield "ADDED", item
        query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(path, params=query, timeout=timeout) as stream:
            async for line in stream.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["type"], event["object"]
