"""The version that the upgrade test starts from: the files of a commit, changed so that they differ from this version.

Most commits change neither a manifest nor a default, and an upgrade between two such commits would test nothing. Each
patch here is a change that a real version may bring: different pods, different objects beside them, different defaults,
a different text of the same settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BUILD, CRD = "operator/dedup_operator/domain/**/*.py", "charts/dedup-operator/files/*.yaml"


@dataclass(frozen=True)
class Patch:
    what: str
    files: str
    """A glob, because an older version may have the constant in another file of the package."""
    pattern: str
    replacement: str


PATCHES = (
    Patch("the pod's grace period", BUILD, r"(?m)^(TERMINATION_GRACE_SECONDS = )\d+$", r"\g<1>97"),
    Patch("a probe's period", BUILD, r'("livenessProbe": _build_probe\([^)]*\bperiod=)\d+', r"\g<1>17"),
    Patch("an annotation of the pod", BUILD, r'("prometheus\.io/scrape": "true")', r'\1, "previous": "true"'),
    Patch(
        "an annotation of the Service",
        BUILD,
        r'("kind": "Service",\s+"metadata": (?:\w+\.)?build_metadata\(job, names\.driver_name\(job\.name\))\)',
        r'\1, annotations={"previous": "true"})',
    ),
    Patch("a StatefulSet's history", BUILD, r'("revisionHistoryLimit": )\d+', r"\g<1>5"),
    Patch("a schedule's history", BUILD, r"(?m)^(KEPT_RUNS = )\d+$", r"\g<1>3"),
    Patch("the settings that a scheduled run was created from", BUILD, r'\n +"annotations": \{(?:marks\.)?APPLIED_SPEC: [^}]*\},', ""),
    Patch("the text of job.json, and with it the ConfigMaps' names", "operator/dedup_operator/domain/*.py", r"\bindent=\d", "indent=1"),
    Patch("a default", "crds/dedup_api/spec.py", r"(?m)^(DEFAULT_MAX_OFFSETS_PER_TRIGGER = )[\d_]+$", r"\g<1>150_000"),
    Patch("that default in the CRD", CRD, r"(\n +maxOffsetsPerTrigger:\n +default: )\d+\n", r"\g<1>150000\n"),
)


def change(folder: Path, patches: tuple[Patch, ...] = PATCHES) -> list[str]:
    """Edits the files below `folder`. Returns the patches whose text does not exist exactly once."""
    return [patch.what for patch in patches if not _apply(folder, patch)]


def _apply(folder: Path, patch: Patch) -> bool:
    texts = {path: path.read_text() for path in sorted(folder.glob(patch.files))}
    found = [path for path, text in texts.items() for _ in re.finditer(patch.pattern, text)]
    if len(found) != 1:
        return False
    after = re.sub(patch.pattern, patch.replacement, texts[found[0]])
    found[0].write_text(after)
    return after != texts[found[0]]
