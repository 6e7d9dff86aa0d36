"""Forks operators from a process that has already imported the operator. Reads requests from stdin and writes answers
to stdout; each is a line of JSON.

`python -m dedup_operator` needs more than a second of CPU to import its libraries, and a run that kills the operator
starts it twice. A forked operator has its own pid, event loop, working directory and log.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import dedup_operator.__main__

KUBECONFIG, LOG = "kubeconfig", "operator.log"
"""File names in the folder of each operator. The client library reads the variable KUBECONFIG when it is imported, once
for all forks. Therefore the variable holds a relative path, and each fork changes to its own folder."""
PR_SET_PDEATHSIG = 1


def start(arguments: list[str], folder: str, relist_seconds: float) -> int:
    pid = os.fork()
    return pid if pid else become_operator(arguments, folder, relist_seconds)


def become_operator(arguments: list[str], folder: str, relist_seconds: float) -> NoReturn:
    code = 70
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.chdir(folder)
        empty, sink = os.open(os.devnull, os.O_RDONLY), os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(empty, 0)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        dedup_operator.__main__.RELIST_SECONDS = relist_seconds  # the operator has no flag for it
        sys.argv = ["dedup_operator", *arguments]
        code = dedup_operator.__main__.main()
    except BaseException:  # noqa: BLE001  the child must never continue with the parent's code
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def handle_request(request: dict[str, Any]) -> int | None:
    """Returns the pid of a started operator. For `kill` and `poll` it returns the wait status, or None while the
    operator runs.

    Only this function waits for a process, so the kernel cannot give a pid that the harness still knows to another
    process.
    """
    if request["do"] == "start":
        return start(request["arguments"], request["folder"], request["relist_seconds"])
    if request["do"] == "kill":
        os.kill(request["pid"], signal.SIGKILL)
        return os.waitpid(request["pid"], 0)[1]
    try:
        pid, status = os.waitpid(request["pid"], os.WNOHANG)
    except ChildProcessError:  # another request has killed it and waited for it
        return None
    return status if pid else None


def serve() -> None:
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(handle_request(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
