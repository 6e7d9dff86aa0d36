"""Forks operators that have their imports behind them. Reads orders from stdin and answers on stdout, a line of JSON each.

`python -m dedup_operator` needs more than a second of a core to import its libraries, and a run that kills the operator starts it
twice. What is forked here is a process of its own in every other respect: its own pid, event loop, log and end.
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
"""In the folder of each operator. The client library reads the variable KUBECONFIG when it is imported, once for all forks: so it holds
a relative path, and each fork has a working directory of its own."""
PR_SET_PDEATHSIG = 1


def start(arguments: list[str], folder: str, relist_seconds: float) -> int:
    pid = os.fork()
    return pid if pid else become_operator(arguments, folder, relist_seconds)


def become_operator(arguments: list[str], folder: str, relist_seconds: float) -> NoReturn:
    code = 70
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.chdir(folder)
        silence, sink = os.open(os.devnull, os.O_RDONLY), os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(silence, 0)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        dedup_operator.__main__.RELIST_SECONDS = relist_seconds  # nobody needs a flag for it
        sys.argv = ["dedup_operator", *arguments]
        code = dedup_operator.__main__.main()
    except BaseException:  # noqa: BLE001  nothing of the parent's may run in the child
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def obey(order: dict[str, Any]) -> int | None:
    """The new process's id; for `kill` and `poll` the wait status, None while it lives. Only here a process is waited for, so no id that
    is known outside belongs to somebody else."""
    if order["do"] == "start":
        return start(order["arguments"], order["folder"], order["relist_seconds"])
    if order["do"] == "kill":
        os.kill(order["pid"], signal.SIGKILL)
        return os.waitpid(order["pid"], 0)[1]
    try:
        pid, status = os.waitpid(order["pid"], os.WNOHANG)
    except ChildProcessError:  # killed since the question was asked
        return None
    return status if pid else None


def serve() -> None:
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
