"""`python -m demo run | remove`. The environment variables DEDUP_… choose the cluster: see `settings.py`."""

from __future__ import annotations

import os
import sys

from demo.run import remove_demo, run_demo
from demo.settings import Settings
from demo.topics import TopicError
from testbed.console import print_failure
from testbed.shell import TestbedError


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["run"]:
                return run_demo(Settings.from_environment(os.environ))
            case ["remove"]:
                return remove_demo(Settings.from_environment(os.environ))
    except TestbedError as error:
        print_failure(error)
        return error.exit_code
    except TopicError as error:
        print_failure(TestbedError(str(error)))
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
