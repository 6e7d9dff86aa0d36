"""The operator's HTTP server: /healthz and /readyz for kubelet, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

MAX_HEARTBEAT_AGE_SECONDS = 60.0
"""The dispatcher iterates every second. A slow machine does not explain a minute without an iteration."""


@dataclass
class HealthServer:
    registry: CollectorRegistry
    seconds_since_heartbeat: Callable[[], float]
    list_problems: Callable[[], list[str]]
    """Why the operator cannot do its work now, as sentences. A restart of its process would not help."""
    port: int
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        # "::" fails on a machine without IPv6. None listens on all available address families.
        await web.TCPSite(self._runner, None, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        age = self.seconds_since_heartbeat()
        if age > MAX_HEARTBEAT_AGE_SECONDS:
            return web.Response(status=503, text=f"the work queue has not run for {age:.0f} s\n")
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        problems = self.list_problems()
        if problems:
            return web.Response(status=503, text="".join(f"{problem}\n" for problem in problems))
        return await self._healthz(request)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
