"""Plays a driver: answers the probes and /status, keeps its attempt on the volume, and does what the name of its topic says.

With `availableNow` it is through after two seconds, but for `busy`, and ends with 143 when it is stopped before.

`ok` is healthy, `busy` counts on for ever, `blocked` waits for a topic, `locked` for another driver, `stubborn` is healthy and does not
stop when it is asked to, `exit.<code>.<reason>` ends after a second, until somebody puts a file `repaired` on its volume.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ATTEMPT = Path("/checkpoint/attempt")
REPAIRED = Path("/checkpoint/repaired")
NOT_BEGUN = {"checkpointBegun": False, "committedInThisRun": False, "progress": {}}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def end(code: int, reason: str = "") -> None:
    if reason:
        Path("/dev/termination-log").write_text(json.dumps({"reason": reason, "message": "as told"}))
    os._exit(code)


def raise_attempt() -> int:
    attempt = int(ATTEMPT.read_text()) + 1 if ATTEMPT.exists() else 1
    ATTEMPT.write_text(str(attempt))
    return attempt


def build_status(action: str, attempt: int) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Running", "checkpointBegun": True, "committedInThisRun": True, "attempt": attempt, "generation": 1}
    counts = {"rowsIn": 10, "rowsOut": 8, "duplicates": 2, "late": 0, "invalid": 0, "lagRecords": 0}
    status["progress"] = {"batch": attempt, "lastProgressTime": now(), **counts}
    if action in BLOCKS:
        status.update(NOT_BEGUN, phase="Waiting", blockedBy=BLOCKS[action])
    if action == "exit":
        status.update(NOT_BEGUN, phase="Starting")
    return status


BLOCKS = {
    "blocked": {"reason": "SourceTopicMissing", "message": "Topic blocked does not exist."},
    "locked": {"reason": "CheckpointLocked", "message": "Another process holds the lock."},
}


def count_on(status: dict[str, Any]) -> None:
    while True:
        time.sleep(1)
        status["progress"].update(rowsIn=status["progress"]["rowsIn"] + 7, lastProgressTime=now())


def end_through(status: dict[str, Any]) -> None:
    Path("/dev/termination-log").write_text(
        json.dumps({"reason": "Completed", "message": "all", "status": {**status, "phase": "Stopping"}})
    )
    os._exit(0)


def main() -> None:
    config = json.loads(Path("/etc/dedup/job.json").read_text())
    action, *arguments = config["source"]["topic"].split(".")
    once = config.get("availableNow", False)
    if action == "exit" and REPAIRED.exists():
        action = "ok"
    signal.signal(signal.SIGTERM, signal.SIG_IGN if action == "stubborn" else lambda *_: end(143 if once else 0))
    status = build_status(action, raise_attempt())
    if once and action == "ok":
        threading.Timer(2, end_through, (status,)).start()
    if action == "exit":
        threading.Timer(1, lambda: end(int(arguments[0]), *arguments[1:])).start()
    if action == "busy":
        threading.Thread(target=count_on, args=(status,), daemon=True).start()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path != "/readyz" or status["phase"] == "Running"
            body = json.dumps(status).encode() if self.path == "/status" else b"ok"
            self.send_response(200 if ready else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    ThreadingHTTPServer(("", 8080), Handler).serve_forever()


if __name__ == "__main__":
    main()
