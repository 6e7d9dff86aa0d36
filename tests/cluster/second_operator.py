"""A second operator, as a process of this machine beside the installed one, and a watch on what both do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cluster.harness import ROOT, Cluster, Json, count_reconciliations, wait_until
from dedup_api import names

PROGRAM = ("-m", "dedup_operator")
FREEZING = """
import os, signal, sys
from pathlib import Path
from dedup_operator import __main__
from dedup_operator.adapters.kube import Kube, Resource

hold = Path(sys.argv.pop(1))

def freeze_before_starts(write):
    async def wait(self, resource, *rest):
        if hold.exists() and resource is Resource.STATEFUL_SETS and rest[-1]["spec"]["replicas"] == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return await write(self, resource, *rest)
    return wait

Kube.create, Kube.replace = freeze_before_starts(Kube.create), freeze_before_starts(Kube.replace)
sys.exit(__main__.main())
"""
"""The operator. While a file exists, it stops itself just before it sends the write that starts a driver."""


class SecondOperator:
    """Use it as a context manager. `hold`: while this file exists, the operator freezes before it starts a driver."""

    def __init__(self, cluster: Cluster, job_image: str, log: Path, hold: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.log, self._hold = log, hold
        program = PROGRAM if hold is None else ("-c", FREEZING, str(hold))
        flags = ["--job-image", job_image, "--job-image-pull-policy", "Never", "--resync-seconds", "5", "--port", str(self.port)]
        paths = os.pathsep.join(str(ROOT / name) for name in ("crds", "operator"))
        environment = {**cluster.access.environment(), "PYTHONPATH": paths}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *program, *flags], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> SecondOperator:
        wait_until(lambda: "watches" in self.read_log(), "the second operator watches", 60, self.read_log)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()  # SIGKILL also ends a frozen process
        self._process.wait()

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def count_reconciliations(self) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return count_reconciliations(answer.read().decode())

    def wait_until_frozen(self) -> None:
        stat = Path(f"/proc/{self._process.pid}/stat")
        wait_until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", "the operator freezes", 60, self.read_log)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """The operator freezes before it starts a driver. At the end it continues and sends that write first."""
        assert self._hold is not None
        self._hold.touch()
        try:
            yield
        finally:
            self._hold.unlink()
            self._process.send_signal(signal.SIGCONT)

    def wait_for_more_reconciliations(self) -> None:
        before = self.count_reconciliations()
        wait_until(lambda: self.count_reconciliations() >= before + 2, "it reconciles two more times", 60, self.read_log)


@dataclass
class Watch:
    """Records every object of one kind in a namespace. Use it as a context manager, before the first object exists."""

    cluster: Cluster
    namespace: str
    path: str
    """The API path without the namespace, such as `/api/v1/pods`."""
    _events: list[tuple[str, Json]] = field(default_factory=list)

    def __enter__(self) -> Watch:
        group, plural = self.path.rsplit("/", 1)
        path = f"{group}/namespaces/{self.namespace}/{plural}?watch=1&timeoutSeconds=3000"
        access = self.cluster.access
        command = access.kubectl_command("get", "--raw", path)
        self._process = subprocess.Popen(command, env=access.environment(), stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        assert ended is None, "the watch ended before the test"

    def _run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self._events.append((event["type"], event["object"]))

    def _list_events(self, job: str) -> list[tuple[str, Json]]:
        return [(kind, item) for kind, item in self._events if item["metadata"].get("labels", {}).get(names.LABEL_JOB) == job]

    def list_uids(self, job: str) -> list[str]:
        """The UIDs of all objects that the job has had, in the order of their creation."""
        return list(dict.fromkeys(item["metadata"]["uid"] for _, item in self._list_events(job)))

    def count_most(self, job: str, counts: Callable[[Json], bool] = lambda _: True) -> int:
        """The largest number of objects that the job had at the same time. Only objects for which `counts` is true."""
        alive: set[str] = set()
        most = 0
        for kind, item in self._list_events(job):
            (alive.add if kind != "DELETED" and counts(item) else alive.discard)(item["metadata"]["uid"])
            most = max(most, len(alive))
        return most


def has_running_container(pod: Json) -> bool:
    return any("running" in status["state"] for status in pod["status"].get("containerStatuses", []))
