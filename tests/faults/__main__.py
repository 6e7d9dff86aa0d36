"""`python -m faults`: one run, and its report on stdout. Exit code 1 when anything speaks against it."""

from __future__ import annotations

import argparse
import random
import sys

from dedup_api.spec import Delivery
from faults.schedule import Counts
from faults.soak import Settings, SoakFailed, run_soak


def read_settings(words: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeats the plan and the schedule of another run; any if absent")
    parser.add_argument("--records", type=int, default=2_000_000, help="at least so many go in; default 2000000")
    parser.add_argument("--kills", type=int, default=64, help="of driver, JVM or both; default 64")
    parser.add_argument("--broker-kills", type=int, default=6, help="default 6")
    parser.add_argument("--freezes", type=int, default=3, help="each with a second driver; default 3")
    parser.add_argument("--second-drivers", type=int, default=2, help="beside a healthy driver; default 2")
    parser.add_argument("--delivery", type=Delivery, choices=list(Delivery), default=Delivery.EXACTLY_ONCE, help="default ExactlyOnce")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the run")
    found = parser.parse_args(words)
    seed = random.randrange(1_000_000) if found.seed is None else found.seed
    counts = Counts(found.kills, found.broker_kills, found.freezes, found.second_drivers)
    return Settings(seed, found.records, counts, found.delivery, keep=found.keep)


def main(words: list[str]) -> int:
    try:
        report = run_soak(read_settings(words))
    except SoakFailed as error:
        print(error)
        return 1
    print(report.describe())
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
