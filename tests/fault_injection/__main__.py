"""`python -m fault_injection --scenario create --fault kill-after --at 3`. Everything is run where no option is given."""

from __future__ import annotations

import argparse
import asyncio
import sys

from fault_injection.faults import Fault
from fault_injection.harness import open_plane
from fault_injection.matrix import describe_failures, list_cases, list_lost, rehearse, run_cases
from fault_injection.scenarios import SCENARIOS


async def run(options: argparse.Namespace) -> str:
    """What failed; empty where nothing did."""
    async with open_plane() as plane:
        rehearsals = await rehearse(plane, options.scenario or SCENARIOS)
        for outcome in rehearsals.values():
            print(f"{outcome.title}: {outcome.seconds:.1f} s", *outcome.writes, sep="\n  ")
        if problems := describe_failures(list(rehearsals.values())):
            return problems
        faults, places = options.fault or list(Fault), options.at
        listed = list_lost(rehearsals) if options.rare else list_cases(rehearsals)
        cases = [case for case in listed if case.fault in faults and (not places or case.at in places)]
        return describe_failures(await run_cases(plane, cases, rehearsals, lambda line: print(line, flush=True)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="plane", description="Interruptions of the operator, see tests/fault_injection.")
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--fault", action="append", type=Fault, help=", ".join(Fault))
    parser.add_argument("--at", action="append", type=int, help="number of the write; with --rare 0 is what people do")
    parser.add_argument("--rare", action="store_true", help="lost events where the operator hardly looks without being told")
    problems = asyncio.run(run(parser.parse_args()))
    print(problems or "all ended like the undisturbed runs")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
