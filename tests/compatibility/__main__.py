"""Writes `previous.json` from the code of this checkout: `PYTHONPATH=tests .venv/bin/python -m compatibility`.

Run it once, when a version is released. Until the next release the file stays as it is.
"""

from __future__ import annotations

from compatibility.compare import DATA, render


def main() -> None:
    DATA.write_text(render())
    print(f"wrote {DATA}")


if __name__ == "__main__":
    main()
