"""`python -m bench [scenario] [--seconds 8] [--rounds 3]`: runs the scenarios and writes bench/results/."""

from __future__ import annotations

import argparse
import shlex
import sys

from bench import serving

SCENARIOS = {"serving": serving.main}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures, and writes bench/results/.")
    parser.add_argument("scenario", nargs="*", help=f"which (default: all): {', '.join(SCENARIOS)}")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one load run (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="how often the servers take turns (default 3)")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenario) - set(SCENARIOS):
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    command = shlex.join(["scripts/bench", *sys.argv[1:]])
    for name in arguments.scenario or SCENARIOS:
        SCENARIOS[name](arguments.seconds, arguments.rounds, command)


main()
