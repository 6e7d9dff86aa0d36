"""Prometheus' own checker of metrics, out of Debian's package without installing it: that would also start a Prometheus."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from testbed.console import step
from testbed.layout import Layout
from testbed.shell import run

_PACKAGE = "prometheus"
_INSIDE = "usr/bin/promtool"


def fetch_promtool(layout: Layout) -> Path:
    """That of the machine, or one in the cache; whole or absent, also when two test runs fetch at once."""
    installed = shutil.which("promtool")
    if installed is not None:
        return Path(installed)
    target = layout.cache / "promtool"
    if target.exists():
        return target
    log = layout.log / "promtool.log"
    layout.cache.mkdir(parents=True, exist_ok=True)
    with step("fetching promtool", log), tempfile.TemporaryDirectory(dir=layout.cache, prefix=".promtool-") as name:
        folder = Path(name)
        run(["apt-get", "update", "-q"], log=log, attempts=2)
        run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", _PACKAGE], log=log, cwd=folder, attempts=2)
        (package,) = folder.glob("*.deb")
        run(["dpkg-deb", "--extract", str(package), str(folder / "files")], log=log)
        os.replace(folder / "files" / _INSIDE, target)  # noqa: PTH105  atomic, and to a name that may be there by now
    return target
