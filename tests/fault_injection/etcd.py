"""Changes a stored DedupJob directly in etcd: so it gets a spec that an older CRD accepted and that the current CRD
would refuse."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from dedup_api import names
from fault_injection.api import Json


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


@dataclass
class Etcd:
    """Uses etcd's JSON gateway. The API server stores custom resources as JSON."""

    address: str

    async def edit(self, namespace: str, name: str, change: Callable[[Json], None]) -> None:
        """Stores the object after `change` has edited it in place. If another write comes first, it reads the object
        again and repeats."""
        key = _encode(f"/registry/{names.GROUP}/{names.PLURAL}/{namespace}/{name}".encode())
        async with aiohttp.ClientSession(self.address, trust_env=False) as session:
            while True:
                found = (await _call(session, "/v3/kv/range", {"key": key}))["kvs"][0]
                document = json.loads(base64.b64decode(found["value"]))
                change(document)
                document["metadata"]["generation"] += 1
                compare = {"key": key, "target": "MOD", "result": "EQUAL", "modRevision": found["mod_revision"]}
                put = {"requestPut": {"key": key, "value": _encode(json.dumps(document).encode())}}
                if (await _call(session, "/v3/kv/txn", {"compare": [compare], "success": [put]})).get("succeeded"):
                    return


async def _call(session: aiohttp.ClientSession, path: str, body: Json) -> dict[str, Any]:
    async with session.post(path, json=body) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
        return answer
