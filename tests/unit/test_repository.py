"""What holds for the repository as a whole."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 500
"""A longer file needs a reason; there is none so far."""


def test_the_operator_folder_is_no_package() -> None:
    """An `__init__.py` there would shadow Python's own module `operator`, and `import collections` would fail."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "tests" / "operator").exists()


def test_no_source_file_is_too_long() -> None:
    folders = [ROOT / name for name in ("crds", "operator", "job", "tests")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert sources
    assert {str(path.relative_to(ROOT)) for path in sources if len(path.read_text().splitlines()) > MAX_LINES} == set()


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert phony == described


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "charts").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []
