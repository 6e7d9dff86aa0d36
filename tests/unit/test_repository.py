"""Rules for the repository as a whole."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 400


def test_no_folder_named_operator_is_a_package() -> None:
    """A package named `operator` would shadow Python's own module, and `import collections` would fail."""
    file = ROOT / "operator" / "__init__.py"
    assert not file.exists(), f"Delete {file}."
    folder = ROOT / "tests" / "operator"
    assert not folder.exists(), f"Rename {folder}."


def test_no_source_file_is_too_long() -> None:
    folders = [ROOT / name for name in ("crds", "operator", "job", "tests")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert sources
    long = sorted(str(path.relative_to(ROOT)) for path in sources if len(path.read_text().splitlines()) > MAX_LINES)
    assert not long, f"These files have more than {MAX_LINES} lines: {', '.join(long)}. Split each into modules with one purpose."


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    undescribed, undeclared = sorted(phony - described), sorted(described - phony)
    assert not undescribed, f"Describe these targets of the Makefile behind `##`: {undescribed}."
    assert not undeclared, f"Add a line `.PHONY: <target>` to the Makefile for each of these targets: {undeclared}."


def test_every_link_between_pages_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "charts").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not broken, f"These links lead to no file; correct them: {broken}"
