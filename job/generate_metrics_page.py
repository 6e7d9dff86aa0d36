"""Writes `docs/metrics.md` from the definitions of the metrics. With `--check`, it fails when the page is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from dedup_job.report.metrics import build_metrics_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"


def main() -> int:
    text = build_metrics_page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
        return 0
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    print(f"{PAGE.name} is stale: run `python job/generate_metrics_page.py`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
