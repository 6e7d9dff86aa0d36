"""The version that the upgrade test starts from creates different objects than this one, whatever the last commit changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cluster.previous import PATCHES, Patch, change

ROOT = Path(__file__).resolve().parents[3]
NEEDED = ("crds/dedup_api", "operator/dedup_operator", "charts/dedup-operator")
TRIGGERS: tuple[dict[str, Any], ...] = ({}, {"availableNow": {}}, {"availableNow": {"schedule": "* * * * *"}})
BUILD = """
import dataclasses, json, sys
from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.manifests import JobImage, build_children
from dedup_operator.domain.driver_settings import build_driver_settings
from dedup_operator.domain.validate import ValidJob

def build(trigger):
    document = {"source": {"bootstrapServers": "kafka:9092", "topic": "in"}, "key": {"fields": ["id"]}, "eventTime": {"field": "ts"}}
    document |= {"watermark": "10m", "sink": {"console": {}}} | ({"trigger": trigger} if trigger else {})
    spec = DedupJobSpec.model_validate(document)
    job = ValidJob(namespace="ns", name="demo", uid="uid", generation=1, spec=spec)
    return dataclasses.asdict(build_children(job, build_driver_settings("ns", "demo", spec, None), JobImage("job:1")))

print(json.dumps([build(trigger) for trigger in json.load(sys.stdin)]))
"""


def copy_this_version(folder: Path) -> Path:
    for path in NEEDED:
        shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def build_objects(folder: Path) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder / name) for name in ("crds", "operator"))}
    done = subprocess.run(
        [sys.executable, "-c", BUILD], input=json.dumps(TRIGGERS), env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_every_object_of_the_previous_version_differs(tmp_path: Path) -> None:
    assert change(copy_this_version(tmp_path)) == [], "change the pattern in tests/cluster/previous.py to fit the new text"
    for before, after in zip(build_objects(tmp_path), build_objects(ROOT), strict=True):
        assert before.keys() == after.keys()
        assert {kind for kind in after if before[kind] == after[kind]} == {"record"}, "these jobs have no record"


def test_the_default_differs_in_the_crd_too(tmp_path: Path) -> None:
    change(copy_this_version(tmp_path))
    (file,) = (tmp_path / "charts/dedup-operator/files").glob("*.yaml")
    crd = yaml.safe_load(file.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert spec["source"]["properties"]["maxOffsetsPerTrigger"]["default"] == 150_000


def test_a_patch_without_exactly_one_match_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("ONE = 1\nTWO = 2\nTWO = 2\n")
    patches = tuple(Patch(what, "*.py", rf"(?m)^({what} = )\d$", r"\g<1>1") for what in ("ONE", "TWO", "THREE"))
    assert change(tmp_path, patches) == ["ONE", "TWO", "THREE"], "a patch that changes nothing is reported too"
    assert len({patch.what for patch in PATCHES}) == len(PATCHES)
