"""Writes every file that is generated from the API models. With `--check` it writes nothing, names the stale files and
exits with 1.

It runs from any folder: `python crds/generate.py [--check]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from dedup_api.crd import build_crd
from dedup_api.reference import build_exit_codes_page, build_reasons_page, build_records_page, build_reference_page

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Generated from crds/dedup_api by `make generate`. Do not edit.\n"


def build_files() -> dict[Path, str]:
    """Content of every generated file by its path."""
    crd = HEADER + yaml.safe_dump(build_crd(), sort_keys=False, width=140, allow_unicode=True)
    return {
        ROOT / "crds" / "dedupjobs.streamdedup.dev.yaml": crd,
        ROOT / "charts" / "dedup-operator" / "files" / "dedupjobs.streamdedup.dev.yaml": crd,
        ROOT / "docs" / "reference.md": build_reference_page(),
        ROOT / "docs" / "reasons.md": build_reasons_page(),
        ROOT / "docs" / "records.md": build_records_page(),
        ROOT / "docs" / "exit-codes.md": build_exit_codes_page(),
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = {path: content for path, content in build_files().items() if not path.exists() or path.read_text() != content}
    for path, content in stale.items():
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run `make generate` and commit the result", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
