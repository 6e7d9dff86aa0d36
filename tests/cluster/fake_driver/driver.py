"""Plays a driver: serves /status and the probes, and does what the name of its topic says."""
import json, os, signal, sys, threading, time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

config = json.load(open("/etc/dedup/job.json"))
script = config["source"]["topic"].split(".")
action = script[0]
now = lambda: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
started = now()
attempt_file = "/checkpoint/attempt"
attempt = int(open(attempt_file).read()) + 1 if os.path.exists(attempt_file) else 1
open(attempt_file, "w").write(str(attempt))

def end(code, reason=None, message=None):
    if reason:
        open("/dev/termination-log", "w").write(json.dumps({"reason": reason, "message": message}))
    os._exit(code)

signal.signal(signal.SIGTERM, lambda *_: end(0))
status = {"phase": "Running", "committedInThisRun": True, "attempt": attempt, "generation": 1,
          "progress": {"batch": attempt, "rowsIn": 10, "rowsOut": 8, "duplicates": 2, "late": 0, "invalid": 0, "lagRecords": 0, "lastProgressTime": started}}
if action == "blocked":
    status |= {"phase": "Waiting", "committedInThisRun": False, "blockedBy": {"reason": "SourceTopicMissing", "message": "Topic blocked does not exist."}, "progress": {}}
if action == "exit":
    threading.Timer(1, lambda: end(int(script[1]), script[2] if len(script) > 2 else None, "as told")).start()
if action == "busy":
    def tick():
        while True:
            time.sleep(1); status["progress"]["rowsIn"] += 7; status["progress"]["lastProgressTime"] = now()
    threading.Thread(target=tick, daemon=True).start()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(status).encode() if self.path == "/status" else b"ok"
        self.send_response(200 if self.path != "/readyz" or status["phase"] == "Running" else 503)
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
