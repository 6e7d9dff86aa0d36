"""A fake driver: it answers the probes and /status, keeps its attempt on the volume, and behaves as its topic's name says.

* `ok`: healthy. With `availableNow` it completes after two seconds.
* `busy`: its counts grow until it is stopped. With `availableNow` it never completes.
* `blocked` and `locked`: it waits for a topic, or for another driver.
* `stubborn`: healthy, but it ignores SIGTERM.
* `deaf`: healthy, but it does not answer on /status until a file `repaired` exists on its volume, as behind a network
  policy.
* `exit.<code>.<reason>`: it ends after a second, until a file `repaired` exists on its volume.

A driver with `availableNow` that is stopped early ends with exit code 143.
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
WITHOUT_STATE = {"checkpointBegun": False, "committedInThisRun": False, "progress": {}}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def end(code: int, reason: str = "") -> None:
    if reason:
        Path("/dev/termination-log").write_text(json.dumps({"reason": reason, "message": "The topic's name asks for it."}))
    os._exit(code)


def stop(code: int, status: dict[str, Any]) -> None:
    said = {"reason": "DriverFailed", "message": "stopped as requested", "checkpointHasState": status["checkpointBegun"]}
    said["attempt"] = status["attempt"]
    Path("/dev/termination-log").write_text(json.dumps(said))
    os._exit(code)


def raise_attempt() -> int:
    attempt = int(ATTEMPT.read_text()) + 1 if ATTEMPT.exists() else 1
    ATTEMPT.write_text(str(attempt))
    return attempt


def build_status(action: str, attempt: int) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Running", "checkpointBegun": True, "committedInThisRun": True, "attempt": attempt, "generation": 1}
    status["reportsKeysAtEnd"] = True
    counts = {"rowsIn": 10, "rowsOut": 8, "duplicates": 2, "late": 0, "invalid": 0, "lagRecords": 0}
    status["progress"] = {"batch": attempt, "lastProgressTime": now(), **counts}
    if action in BLOCKS:
        status.update(WITHOUT_STATE, phase="Waiting", blockedBy=BLOCKS[action])
    if action == "exit":
        status.update(WITHOUT_STATE, phase="Starting")
    return status


BLOCKS = {
    "blocked": {"reason": "SourceTopicMissing", "message": "Topic blocked does not exist."},
    "locked": {"reason": "CheckpointLocked", "message": "Another process holds the lock."},
}


def keep_counting(status: dict[str, Any]) -> None:
    while True:
        time.sleep(1)
        status["progress"].update(rowsIn=status["progress"]["rowsIn"] + 7, lastProgressTime=now())


def complete(status: dict[str, Any]) -> None:
    Path("/dev/termination-log").write_text(
        json.dumps({"reason": "Completed", "message": "everything is read", "status": {**status, "phase": "Stopping"}})
    )
    os._exit(0)


def main() -> None:
    config = json.loads(Path("/etc/dedup/job.json").read_text())
    action, *arguments = config["source"]["topic"].split(".")
    once = config.get("availableNow", False)
    if action == "exit" and REPAIRED.exists():
        action = "ok"
    status = build_status(action, raise_attempt())
    signal.signal(signal.SIGTERM, signal.SIG_IGN if action == "stubborn" else lambda *_: stop(143 if once else 0, status))
    if once and action == "ok":
        threading.Timer(2, complete, (status,)).start()
    if action == "exit":
        threading.Timer(1, lambda: end(int(arguments[0]), *arguments[1:])).start()
    if action == "busy":
        threading.Thread(target=keep_counting, args=(status,), daemon=True).start()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            while action == "deaf" and self.path == "/status" and not REPAIRED.exists():
                time.sleep(0.2)
            ready = self.path != "/readyz" or status["phase"] == "Running"
            body = json.dumps(status).encode() if self.path == "/status" else b"ok"
            self.send_response(200 if ready else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The test needs no access log."""

    ThreadingHTTPServer(("", 8080), Handler).serve_forever()


if __name__ == "__main__":
    main()
