"""
`python -m bench [scenario] [--seconds 2] [--rounds 5]`: run the scenarios and write the results, the page and the plot.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import traceback
from pathlib import Path

# Set before anything imports mlflow or onnxruntime.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", ORT_DISABLE_TELEMETRY="1")

from bench import environments, page, results
from bench.rounds import Plan, Progress
from bench.scenarios import SCENARIOS

SECONDS = 2.0
ROUNDS = 5
LOOKS = environments.FOLDER / "results"


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped too
    about = results.circumstances(shlex.join(["scripts/bench", *sys.argv[1:]]), arguments.seconds, arguments.rounds)
    found = results.Results(about, {}, {}) if arguments.again is None else results.Results.read(arguments.again)
    progress, failed = Progress(), False
    for name in arguments.scenario or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            plan = Plan(name, Path(folder), arguments.seconds, arguments.rounds, progress, found.skipped)
            try:
                found.take(name, SCENARIOS[name](plan))
                if arguments.again is not None:
                    found.tell_again(name, about)
            except Exception as error:  # earlier measurements must not be lost
                traceback.print_exc()
                found.skipped[name] = f"{type(error).__name__}: {error}"
                failed = True
        found.write(LOOKS)
    path = found.write(arguments.results or (LOOKS if _is_look(arguments) or failed else results.FOLDER))
    if path.parent == results.FOLDER:
        page.publish(path)
    print(page.text(found, path))
    print(f"Written: {path}")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Run measurements. A complete run of at least the default length is published in bench/results/ "
        "and docs/benchmarks.md. Anything less is a quick look, kept in "
        f"{LOOKS.relative_to(LOOKS.parent.parent.parent)}/.",
    )
    parser.add_argument("scenario", nargs="*", help=f"scenarios to run (default: all): {', '.join(SCENARIOS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"length of one load (default: {SECONDS:g})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"number of rounds (default: {ROUNDS})")
    parser.add_argument("--results", type=Path, help="folder for the JSON file, for any kind of run")
    parser.add_argument("--again", action="store_true", help="measure complete scenarios of the newest results again")
    arguments = parser.parse_args()
    arguments.again = results.newest() if arguments.again else None
    if unknown := set(arguments.scenario) - set(SCENARIOS):
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}; choose from {', '.join(SCENARIOS)}")
    return arguments


def _is_look(arguments: argparse.Namespace) -> bool:
    """Return whether the run is too small to publish."""
    whole = arguments.again or not arguments.scenario or set(arguments.scenario) == set(SCENARIOS)
    return not whole or arguments.seconds < SECONDS or arguments.rounds < ROUNDS


if __name__ == "__main__":
    sys.exit(main())
