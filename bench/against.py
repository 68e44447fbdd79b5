"""
Compare this checkout with another commit, both compiled, in turns: `scripts/bench --against COMMIT [scenario ...]`.

Each side measures its own source with its own scenarios. The sides take turns scenario by scenario, so that a slow
minute affects both. A ratio is taken within a round, and is above 1 if this checkout does better. The results are
written to results/against/<date>-<commit>.json. `processor` is the processor time of both engines (`processor.py`),
which says more than the others on a machine that does something else, too. `plugin` is `predict` of one row, with each
side's own plugin and engine (`one_row.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import environments, one_row, processor, results
from bench.rounds import Progress

ROOT = Path(__file__).parent.parent
FOLDER = results.FOLDER / "against"
#: Scenarios in which both sides run at the same time, and take much shorter turns.
SHORT_TURNS = {"plugin": one_row.in_turns, "processor": processor.in_turns}
SCENARIOS = ("predictions", "relay", *SHORT_TURNS)
#: The figures that are compared, the most telling one first, and whether a larger one is better.
FIGURES = {
    "per_second": True,
    "gb_per_second": True,
    "rows_per_second": True,
    "median_ms": False,
    "seconds": False,
    "processor_us": False,
}

Rounds = list[dict[str, Any]]  # Results.scenarios of each round


@dataclass(frozen=True)
class Side:
    """A source tree of the project, with its engine compiled."""

    tree: Path

    def compile(self) -> None:
        """Compile the engine of this tree, unless it is already compiled. Raise CalledProcessError."""
        command = [sys.executable, "hatch_build.py", ".cache/compiled"]
        subprocess.run(command, cwd=self.tree, check=True, stdout=subprocess.DEVNULL)

    @property
    def path(self) -> str:
        """Where Python finds the engine, as PYTHONPATH."""
        return os.pathsep.join([str(self.tree / ".cache" / "compiled"), str(self.tree / "src")])

    def measure(self, scenario: str, seconds: float) -> dict[str, Any]:
        """Run a scenario once and return its series. Raise CalledProcessError."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            options = ["--seconds", str(seconds), "--rounds", "1", "--results", folder]
            subprocess.run(
                [sys.executable, "-m", "bench", scenario, *options],
                cwd=self.tree,
                env={**os.environ, "PYTHONPATH": self.path},
                check=True,
                capture_output=True,
            )
            [path] = Path(folder).glob("*.json")
            found: dict[str, Any] = json.loads(path.read_text())["scenarios"][scenario]
            return found


def main() -> int:
    arguments = _arguments()
    other, here = Side(_checked_out(arguments.commit)), Side(ROOT)
    for side in (other, here):
        side.compile()
    about = results.circumstances(
        shlex.join(["scripts/bench", "--against", *sys.argv[1:]]), arguments.seconds, arguments.rounds
    )
    about["against"] = _git("rev-parse", "--short=12", arguments.commit)
    rounds: dict[str, dict[str, Rounds]] = {}
    sides = {"before": other, "after": here}
    for scenario in arguments.scenario:
        measure = _in_short_turns if scenario in SHORT_TURNS else _in_turns
        rounds[scenario] = measure(scenario, sides, arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{about['date']}-{about['against']}.json"
    path.write_text(json.dumps({**about, "rounds": rounds}, indent=1) + "\n")
    print("\n".join(table(rounds)))
    print(f"Written: {path}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench --against", description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("scenario", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one load (default 1)")
    parser.add_argument("--rounds", type=int, default=7, help="how often both take turns (default 7)")
    return parser.parse_args()


def _checked_out(commit: str) -> Path:
    """Return a folder with the files of a commit."""
    folder = environments.FOLDER / "against" / _git("rev-parse", "--short=12", commit)
    if not folder.exists():
        folder.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def _in_turns(scenario: str, sides: dict[str, Side], arguments: argparse.Namespace) -> dict[str, Rounds]:
    progress = Progress()
    measured: dict[str, Rounds] = {name: [] for name in sides}
    for number in range(1, arguments.rounds + 1):
        progress.round(f"{scenario}, round {number} of {arguments.rounds}")
        for name in sides if number % 2 else reversed(list(sides)):
            measured[name].append(sides[name].measure(scenario, arguments.seconds))
    return measured


def _in_short_turns(scenario: str, sides: dict[str, Side], arguments: argparse.Namespace) -> dict[str, Rounds]:
    paths = {name: side.path for name, side in sides.items()}
    processors = os.sched_getaffinity(0)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            return SHORT_TURNS[scenario](paths, Path(folder), arguments.rounds)
    finally:
        os.sched_setaffinity(0, processors)  # they all share one, but the next scenario may use all


def table(rounds: dict[str, dict[str, Rounds]]) -> list[str]:
    """Return the rows of a Markdown table: the ratio's median and spread for each series."""
    lines = ["| scenario | series | figure | ratio |", "|---|---|---|---|"]
    for scenario, sides in rounds.items():
        for series in sides["after"][0]:
            figure = next(name for name in FIGURES if name in sides["after"][0][series][0])
            found = ratios(sides, series, figure)
            if found:
                shown = results.median_and_spread(found, "{:.2f}".format)
                lines.append(f"| {scenario} | {series} | {figure} | {shown} |")
    return lines


def ratios(sides: dict[str, Rounds], series: str, figure: str) -> list[float]:
    """Return by how much the second side was better in each round. Above 1 is better."""
    found = []
    for before, after in zip(sides["before"], sides["after"], strict=True):
        if series in before:
            old, new = (side[series][0][figure] for side in (before, after))
            found.append(new / old if FIGURES[figure] else old / new)
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
