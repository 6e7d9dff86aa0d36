"""`python -m fault_injection create --fault kill-after --at 3` runs one case. Without options it runs every fault at
every write."""

from __future__ import annotations

import argparse
import asyncio
import sys

from fault_injection.cases import describe_failures, list_cases, list_lost_event_cases, run_baselines, run_cases
from fault_injection.faults import Fault
from fault_injection.harness import open_harness
from fault_injection.scenarios import SCENARIOS


async def run(options: argparse.Namespace) -> str:
    """Returns a description of the failures, or an empty string when there is none."""
    async with open_harness() as harness:
        baselines = await run_baselines(harness, options.scenario or SCENARIOS)
        for outcome in baselines.values():
            print(f"{outcome.title}: {outcome.seconds:.1f} s", *outcome.writes, sep="\n  ")
        if problems := describe_failures(list(baselines.values())):
            return problems
        faults, places = options.fault or list(Fault), options.at
        listed = list_lost_event_cases(baselines) if options.events_only else list_cases(baselines)
        cases = [case for case in listed if case.fault in faults and (not places or case.at in places)]
        return describe_failures(await run_cases(harness, cases, baselines, lambda line: print(line, flush=True)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="fault_injection", description="Inject faults between operator and API server.")
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--fault", action="append", type=Fault, help=", ".join(Fault))
    parser.add_argument("--at", action="append", type=int, help="number of the write; with --events-only, 0 is the user's own change")
    parser.add_argument("--events-only", action="store_true", help="lose events while the operator reconciles almost only on events")
    problems = asyncio.run(run(parser.parse_args()))
    print(problems or "all runs ended like their baselines")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
