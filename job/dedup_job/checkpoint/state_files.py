"""Finds the files from which a version of Spark's state is built, and checks whether they are whole. Changes no file.

Spark builds version V of a partition from the newest snapshot up to V (`<version>.zip`, and SST files that several
snapshots share) and the changelogs after that snapshot (`<version>.changelog`). Version 0 is empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dedup_job.checkpoint.file_formats import (
    build_sidecar_path,
    build_size_check,
    find_archive_fault,
    find_changelog_fault,
    find_commit_fault,
    find_schema_fault,
    inspect_file,
    read_sst_sizes,
)

_VERSION_FILE = re.compile(r"(\d+)\.(changelog|zip)")


@dataclass(frozen=True)
class StateFault:
    path: Path
    what: str


@dataclass
class StateFindings:
    fault: StateFault | None = None
    """Why the version cannot be read."""
    useless: list[tuple[Path, str]] = field(default_factory=list)
    """Damaged snapshots that Spark would use although the changelogs make them unnecessary, each with its fault."""
    torn_sidecars: list[Path] = field(default_factory=list)


def find_state_fault(state: Path, version: int) -> StateFindings:
    findings = StateFindings()
    if version > 0:
        for operator in _list_operators(state):
            findings.fault = _check_operator(operator, version, findings)
            if findings.fault is not None:
                break
    return findings


def _list_operators(state: Path) -> list[Path]:
    """Includes operator 0, the deduplication, even where its folder is missing: the check then reports that."""
    found = {path for path in state.iterdir() if path.name.isdigit()} if state.is_dir() else set()
    return sorted(found | {state / "0"})


def _check_operator(operator: Path, version: int, findings: StateFindings) -> StateFault | None:
    metadata = operator / "_metadata" / "metadata"
    checked = inspect_file(metadata, find_commit_fault)
    if checked.fault is not None:
        return StateFault(metadata, checked.fault)
    _record_sidecar(metadata, checked.torn_sidecar, findings)
    schema = operator / "0" / "_metadata" / "schema"
    checked = inspect_file(schema, find_schema_fault)
    if checked.fault is not None:
        return StateFault(schema, checked.fault)
    _record_sidecar(schema, checked.torn_sidecar, findings)
    for partition in range(_read_partitions(metadata)):
        fault = _check_partition(operator / str(partition), version, findings)
        if fault is not None:
            return fault
    return None


def _read_partitions(metadata: Path) -> int:
    document = json.loads(metadata.read_text().splitlines()[1])
    return max(int(store["numPartitions"]) for store in document["stateStoreInfo"])


def _check_partition(folder: Path, version: int, findings: StateFindings) -> StateFault | None:
    """Starts from the newest whole snapshot.

    A newer damaged snapshot does no harm if every changelog after the whole one exists.
    """
    damaged: list[tuple[Path, str]] = []
    for snapshot in sorted((v for v, kind, _ in _list_versions(folder) if kind == "zip" and v <= version), reverse=True):
        path = folder / f"{snapshot}.zip"
        what = _check_snapshot(path, findings)
        if what is None:
            break
        damaged.append((path, what))
    else:
        snapshot = 0
    fault = _check_changelogs(folder, snapshot, version, findings)
    if fault is None:
        findings.useless += damaged
        return None
    return StateFault(*damaged[0]) if damaged else fault


def _check_snapshot(path: Path, findings: StateFindings) -> str | None:
    """Reads all files of the snapshot, as Spark does afterwards: about two seconds for a gigabyte."""
    checked = inspect_file(path, find_archive_fault)
    if checked.fault is not None:
        return checked.fault
    _record_sidecar(path, checked.torn_sidecar, findings)
    for name, size in read_sst_sizes(path).items():
        sst = path.parent / "SSTs" / name
        checked = inspect_file(sst, build_size_check(size))
        if checked.fault is not None:
            return f"needs SSTs/{name}, which {checked.fault}"
        _record_sidecar(sst, checked.torn_sidecar, findings)
    return None


def _check_changelogs(folder: Path, snapshot: int, version: int, findings: StateFindings) -> StateFault | None:
    for number in range(snapshot + 1, version + 1):
        path = folder / f"{number}.changelog"
        checked = inspect_file(path, find_changelog_fault)
        if checked.fault is not None:
            return StateFault(path, checked.fault)
        _record_sidecar(path, checked.torn_sidecar, findings)
    return None


def _record_sidecar(path: Path, torn: bool, findings: StateFindings) -> None:
    if torn:
        findings.torn_sidecars.append(build_sidecar_path(path))


def _list_versions(folder: Path) -> Iterator[tuple[int, str, Path]]:
    if folder.is_dir():
        for path in folder.iterdir():
            match = _VERSION_FILE.fullmatch(path.name)
            if match:
                yield int(match[1]), match[2], path


def list_later_versions(state: Path, version: int) -> list[Path]:
    """The files, and their checksums, that Spark needs only for versions after this one."""
    found: list[Path] = []
    for partition in state.glob("[0-9]*/[0-9]*"):
        for number, _, path in _list_versions(partition):
            if number > version:
                found += [path, build_sidecar_path(path)]
    return found
