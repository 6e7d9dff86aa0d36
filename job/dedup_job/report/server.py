"""The one HTTP port: `/metrics`, `/healthz`, `/readyz`, `/status`. Reads the state, changes nothing."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dedup_job.report.metrics import Metrics, read_measures
from dedup_job.report.status import State, build_status, decide_health, decide_readiness

_TEXT = "text/plain; charset=utf-8"


class Pages:
    """path -> (HTTP status, content type, body)."""

    def __init__(self, state: State, metrics: Metrics, stuck_bound: timedelta) -> None:
        self._state, self._metrics, self._stuck_bound = state, metrics, stuck_bound

    def read(self, path: str) -> tuple[int, str, bytes]:
        match path.split("?", 1)[0]:
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
            case "/healthz":
                return _answer(decide_health(self._state.read(), self._stuck_bound, time.time()))
            case "/readyz":
                return _answer(decide_readiness(self._state.read()))
            case "/status":
                status = build_status(self._state.read()).model_copy(update={"measures": read_measures(self._metrics)})
                body = status.model_dump_json(by_alias=True, exclude_none=True)
                return 200, "application/json", body.encode()
            case _:
                return 404, _TEXT, b"/metrics /healthz /readyz /status\n"


def _answer(trouble: str | None) -> tuple[int, str, bytes]:
    return (200, _TEXT, b"ok\n") if trouble is None else (503, _TEXT, f"{trouble}\n".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, pages: Pages) -> None:
        self.pages = pages
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        """One socket for IPv4 and IPv6: a pod has whichever its cluster has."""
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    """Seconds: a client that says nothing does not keep a thread."""

    def do_GET(self) -> None:
        status, content_type, body = self.server.pages.read(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: not logged."""


def start_server(port: int, pages: Pages) -> int:
    """Serves from a thread of its own, and gives the port, which the system chose if 0 was asked for."""
    server = _Server(port, pages)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return int(server.server_address[1])
