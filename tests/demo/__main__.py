"""`python -m demo run | remove | produce BOOTSTRAP TOPIC EVENTS NOTE`."""

from __future__ import annotations

import sys
from pathlib import Path

from demo.producer import produce
from demo.run import remove_demo, run_demo
from testbed.console import print_failure
from testbed.shell import TestbedError


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["run"]:
                return run_demo()
            case ["remove"]:
                return remove_demo()
            case ["produce", bootstrap, topic, events, position]:
                produce(bootstrap, topic, Path(events), Path(position))
                return 0
    except TestbedError as error:
        print_failure(error)
        return error.exit_code
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
