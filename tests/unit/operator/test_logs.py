"""The operator's log, as a process writes it: the level, and the DedupJob of each line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
from dedup_operator.domain.types import Key
from dedup_operator.handlers import configure_logging
from dedup_operator.logs import set_job
configure_logging(*sys.argv[1:])
log = logging.getLogger("dedup_operator.test")
log.info("before")
set_job(Key("ns", "orders"))
for level in ("debug", "info", "warning", "error"):
    getattr(log, level)("said %s", level)
"""
LEVELS = ["debug", "info", "warning", "error"]


def run(log_format: str, level: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, log_format, level], capture_output=True, text=True, check=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if line]


@pytest.mark.parametrize("level", LEVELS)
def test_the_level_counts_and_json_lines_name_the_job(level: str) -> None:
    lines = [json.loads(line) for line in run("json", level)]
    said = [line for line in lines if line["message"].startswith("said")]
    assert [line["message"] for line in said] == [f"said {wanted}" for wanted in LEVELS[LEVELS.index(level) :]]
    assert all((line["namespace"], line["dedupjob"]) == ("ns", "orders") for line in said)
    assert all("dedupjob" not in line for line in lines if line["message"] == "before")


def test_text_lines_name_the_job_too() -> None:
    assert any("ns/orders: said warning" in line for line in run("text", "warning"))
