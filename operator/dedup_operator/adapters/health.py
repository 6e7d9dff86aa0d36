"""The operator's HTTP port: /healthz for kubelet, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

STANDSTILL_SECONDS = 60.0
"""The dispatcher goes round every second; a minute without it is no slow machine any more."""


@dataclass
class HealthServer:
    registry: CollectorRegistry
    seconds_since_heartbeat: Callable[[], float]
    port: int
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        # "::" would fail where IPv6 is off; None listens on every family that there is.
        await web.TCPSite(self._runner, None, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        age = self.seconds_since_heartbeat()
        if age > STANDSTILL_SECONDS:
            return web.Response(status=503, text=f"the work queue has stood still for {age:.0f} s\n")
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
