"""
Taking turns: everything that a scenario compares is measured once in every round, so that a slow minute affects all.

Invariant: the n-th figures of all series are from the same round, so ratios are taken within a round.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Figures = dict[str, float]  # one measurement: "per_second", "median_ms", "mb" ...
Series = dict[str, list[Figures]]  # figures of each subject, one per round


class Progress:
    """One line that says what is being measured: overwritten on a terminal, otherwise one line per round."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._overwrites = sys.stderr.isatty()

    def round(self, text: str) -> None:
        self._print(text, end="" if self._overwrites else "\n")

    def step(self, text: str) -> None:
        if self._overwrites:
            self._print(text, end="")

    def _print(self, text: str, end: str) -> None:
        seconds = int(time.monotonic() - self._started)
        head = "\r\033[K" if self._overwrites else ""
        print(f"{head}[{seconds // 60:2d}:{seconds % 60:02d}] {text}", end=end, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Plan:
    """What every scenario gets: its own folder, how long one load lasts, and the number of rounds."""

    scenario: str
    folder: Path
    seconds: float
    rounds: int
    progress: Progress = field(default_factory=Progress)
    skipped: dict[str, str] = field(default_factory=dict)  # what could not be measured, and why

    def in_turns(self, subjects: Mapping[str, Callable[[], Figures]], *, rounds: int | None = None) -> Series:
        """Measure each subject once per round. Every other round is in reverse order, so none is always first."""
        series: Series = {name: [] for name in subjects}
        total = self.rounds if rounds is None else rounds
        for number in range(1, total + 1):
            self.progress.round(f"{self.scenario}, round {number} of {total}")
            for name in subjects if number % 2 else reversed(list(subjects)):
                self.progress.step(f"{self.scenario}, round {number} of {total}: {name}")
                series[name].append(subjects[name]())
        return series
