"""`python -m faults` makes one run and prints its report. The exit code is 1 when the run has found a mistake."""

from __future__ import annotations

import argparse
import random
import sys

from dedup_api.spec import Delivery
from faults.schedule import Counts
from faults.soak import Settings, SoakFailed, run_soak


def read_settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeats the plan and the schedule of another run; default: a random seed")
    parser.add_argument("--records", type=int, default=2_000_000, help="number of records in the source topic, at least; default 2000000")
    parser.add_argument("--kills", type=int, default=64, help="number of kills of the driver, its JVM or both; default 64")
    parser.add_argument("--broker-kills", type=int, default=6, help="number of kills of the broker; default 6")
    parser.add_argument("--freezes", type=int, default=3, help="number of times a driver is frozen while a second one starts; default 3")
    parser.add_argument("--second-drivers", type=int, default=2, help="number of second drivers beside a healthy one; default 2")
    parser.add_argument("--runs", type=int, default=12, help="number of kills that happen to a driver with availableNow; default 12")
    parser.add_argument("--repeats", type=int, default=6, help="number of kills that happen again in the same batch; default 6")
    parser.add_argument("--transactions", type=int, default=16, help="number of transactions that stay open in the source; default 16")
    parser.add_argument("--arrivals", type=int, default=10, help="number of rounds of a second job, with Arrival; default 10")
    parser.add_argument("--delivery", type=Delivery, choices=list(Delivery), default=Delivery.EXACTLY_ONCE, help="default ExactlyOnce")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    found = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if found.seed is None else found.seed
    counts = Counts(
        found.kills, found.broker_kills, found.freezes, found.second_drivers, found.runs, found.repeats, found.transactions, found.arrivals
    )
    return Settings(seed, found.records, counts, found.delivery, keep=found.keep)


def main(arguments: list[str]) -> int:
    try:
        report = run_soak(read_settings(arguments))
    except SoakFailed as error:
        print(error)
        return 1
    print(report.describe())
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
