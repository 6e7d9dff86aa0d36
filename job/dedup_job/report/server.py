"""The driver's HTTP server, with the paths `/metrics`, `/healthz`, `/readyz` and `/status`. It only reads the state."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dedup_job.background import start_lasting
from dedup_job.report.metrics import Metrics, read_measures
from dedup_job.report.status import State, build_status, decide_health, decide_readiness

_TEXT = "text/plain; charset=utf-8"


class Pages:
    """Builds the response for each path: (HTTP status, content type, body)."""

    def __init__(self, state: State, metrics: Metrics, stuck_bound: timedelta) -> None:
        """`stuck_bound`: see `status.build_stuck_bound`."""
        self._state, self._metrics, self._stuck_bound = state, metrics, stuck_bound

    def read(self, path: str) -> tuple[int, str, bytes]:
        match path.split("?", 1)[0]:
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
            case "/healthz":
                return _build_probe_response(decide_health(self._state.read(), self._stuck_bound, time.time()))
            case "/readyz":
                return _build_probe_response(decide_readiness(self._state.read()))
            case "/status":
                status = build_status(self._state.read()).model_copy(update={"measures": read_measures(self._metrics)})
                body = status.model_dump_json(by_alias=True, exclude_none=True)
                return 200, "application/json", body.encode()
            case _:
                return 404, _TEXT, b"/metrics /healthz /readyz /status\n"


def _build_probe_response(problem: str | None) -> tuple[int, str, bytes]:
    return (200, _TEXT, b"ok\n") if problem is None else (503, _TEXT, f"{problem}\n".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, pages: Pages) -> None:
        self.pages = pages
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        """Accepts both IPv4 and IPv6: a pod has the kind of address that its cluster uses."""
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    """Seconds after which the server closes an idle connection, so that an idle client does not keep a thread."""

    def do_GET(self) -> None:
        status, content_type, body = self.server.pages.read(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: kubelet sends a probe every few seconds."""


def start_server(port: int, pages: Pages) -> int:
    """Serves from a thread of its own. Returns the port, which the operating system chooses when `port` is 0."""
    server = _Server(port, pages)
    start_lasting("http", server.serve_forever)
    return int(server.server_address[1])
