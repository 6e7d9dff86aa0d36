"""`python -m simulation --seed N` runs one seed and prints its history; `--seeds A:B` runs a range and prints the seeds
that fail."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from simulation.invariants import Violation
from simulation.run import Coverage, Simulation, run_seeds


def replay(seed: int) -> int:
    simulation = Simulation(seed, trace=True)
    try:
        simulation.run()
        verdict, code = "no invariant is violated", 0
    except Violation as violation:
        verdict, code = f"VIOLATED INVARIANT: {violation}", 1
    print("\n".join(simulation.history or []))
    print(f"seed {seed}: {', '.join(sorted(fault.name for fault in simulation.faults.kinds)) or 'no faults'}")
    print(f"seed {seed}: {verdict}")
    return code


def run_range(first: int, end: int) -> int:
    coverage, failed, began = Coverage(), 0, time.process_time()
    for seed, found in run_seeds(range(first, end)):
        if isinstance(found, Coverage):
            coverage.add(found)
        else:
            failed += 1
            print(f"seed {seed}: {found}", flush=True)
    print(f"{end - first} seeds, {failed} failed, {(time.process_time() - began) / (end - first) * 1000:.0f} ms each")
    for title, counter in (("faults", coverage.faults), ("user actions", coverage.actions), ("decisions", coverage.decisions)):
        print(f"{title}:", "; ".join(f"{key}: {count}" for key, count in sorted(counter.items())))
    crashes = sorted(coverage.crashes.items())
    print("operator died:", "; ".join(f"{when} {write}: {count}" for (write, when), count in crashes))
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed and print its history")
    parser.add_argument("--seeds", default="0:5000", help="run these seeds, as first:end without the end; default 0:5000")
    found = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if found.seed is not None:
        return replay(found.seed)
    first, _, end = found.seeds.partition(":")
    return run_range(int(first), int(end))


if __name__ == "__main__":
    sys.exit(main())
