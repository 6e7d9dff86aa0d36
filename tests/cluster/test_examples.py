"""Every manifest that people are shown is accepted by the API server as it stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
_KUBECTL = [str(ROOT / ".testbed" / "bin" / "kubectl"), "--kubeconfig", str(ROOT / ".testbed" / "kubeconfig")]


def _apply(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_KUBECTL, "apply", "--dry-run=server", "-f", "-"], input=text, capture_output=True, text=True, timeout=60, check=False
    )


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted(path: Path) -> None:
    done = _apply(path.read_text())
    assert done.returncode == 0, done.stderr


def test_the_job_in_the_readme_is_accepted_and_is_the_smallest_example() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = _apply(block)
    assert done.returncode == 0, done.stderr
    example = (ROOT / "docs" / "examples" / "user-events.yaml").read_text()
    assert block in example
