"""`python -m bench [scenario] [--seconds 2] [--rounds 5]`: runs the scenarios and writes results, page and plot."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import traceback
from pathlib import Path

# Before mlflow or onnxruntime is imported.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", ORT_DISABLE_TELEMETRY="1")

from bench import environments, page, results
from bench.rounds import Plan, Progress
from bench.scenarios import SCENARIOS

SECONDS = 2.0
ROUNDS = 5
LOOKS = environments.FOLDER / "results"


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end too
    about = results.circumstances(shlex.join(["scripts/bench", *sys.argv[1:]]), arguments.seconds, arguments.rounds)
    found = results.Results(about, {}, {}) if arguments.again is None else results.Results.read(arguments.again)
    progress, failed = Progress(), False
    for name in arguments.scenario or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            plan = Plan(name, Path(folder), arguments.seconds, arguments.rounds, progress, found.skipped)
            try:
                found.scenarios[name] = SCENARIOS[name](plan)
                if arguments.again is not None:
                    found.tell_again(name, about)
            except Exception as error:  # what was measured before must not be lost
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
        description="Measures. A whole run, of the default length or longer, is published: bench/results/ and "
        f"docs/benchmarks.md. Anything less is a look, kept in {LOOKS.relative_to(LOOKS.parent.parent.parent)}/.",
    )
    parser.add_argument("scenario", nargs="*", help=f"which (default: all): {', '.join(SCENARIOS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"length of one load (default {SECONDS:g})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often all take turns (default {ROUNDS})")
    parser.add_argument("--results", type=Path, help="folder for the JSON file, whatever the run was")
    parser.add_argument("--again", action="store_true", help="measure whole scenarios of the newest results once more")
    arguments = parser.parse_args()
    arguments.again = results.newest() if arguments.again else None
    if unknown := set(arguments.scenario) - set(SCENARIOS):
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return arguments


def _is_look(arguments: argparse.Namespace) -> bool:
    """Whether the run is too small to publish."""
    whole = arguments.again or not arguments.scenario or set(arguments.scenario) == set(SCENARIOS)
    return not whole or arguments.seconds < SECONDS or arguments.rounds < ROUNDS


if __name__ == "__main__":
    sys.exit(main())
