"""
What a one-row frame costs through the plugin: of two versions, in short turns on one machine.

Each version is a process with its own plugin (`deployed.py`), and an engine of its own. Both predict again and again in
turns of a tenth of a second, so they meet the same neighbours, and all share one processor (`processor.py`). A round's
figures are those of its best turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

from bench import servers
from bench.processor import Round, in_rounds, nanoseconds

_ROOT = Path(__file__).parent.parent
_WARM_UP = 500  # predictions
_TIMES = 100  # predictions in one turn
_TURNS = 16  # in one round
_SERIES = {
    "plugin's predict, one row": "median_ms",
    "plugin's predict, one row: its own processor time": "client_us",
    "plugin's predict, one row: the engine's processor time": "engine_us",
}


class Subject:
    """A version's client, which has deployed its model, and its engine."""

    def __init__(self, client: subprocess.Popen[str], engine: servers.Running) -> None:
        self._client = client
        self._engine = engine

    def measure(self, times: int = _TIMES) -> dict[str, float]:
        """Return the figures of one turn."""
        before = nanoseconds(self._engine.pid)
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"{times}\n")
        self._client.stdin.flush()
        figures: dict[str, float] = json.loads(self._client.stdout.readline())
        return {**figures, "engine_us": (nanoseconds(self._engine.pid) - before) / times / 1e3}


def in_turns(paths: Mapping[str, str], folder: Path, rounds: int) -> dict[str, list[Round]]:
    """Measure the versions that Python finds in `paths`, by name, and return `rounds` figures of each series."""
    return in_rounds("plugin", rounds, {name: _subject(path, folder / name) for name, path in paths.items()}, _measured)


def _measured(subjects: Mapping[str, Subject]) -> dict[str, Round]:
    return {
        name: {series: [_shown(best[figure], figure)] for series, figure in _SERIES.items()}
        for name, best in _best(subjects).items()
    }


def _shown(value: float, figure: str) -> dict[str, float]:
    return {"median_ms" if figure == "median_ms" else "processor_us": round(value, 4)}


def _best(subjects: Mapping[str, Subject]) -> dict[str, dict[str, float]]:
    """Return the least of each figure, for each subject."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for number in range(_TURNS):
        for name in subjects if number % 2 else reversed(list(subjects)):
            turns[name].append(subjects[name].measure())
    return {
        name: {figure: min(turn[figure] for turn in found) for figure in _SERIES.values()}
        for name, found in turns.items()
    }


@contextlib.contextmanager
def _subject(path: str, folder: Path) -> Iterator[Subject]:
    with contextlib.ExitStack() as stack:
        with patch.dict(os.environ, PYTHONPATH=path):
            engine = stack.enter_context(servers.engine(folder, "--busy-poll", "0"))
            command = [sys.executable, "-m", "bench.deployed", str(engine.port), str(folder)]
            client = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
            )
        stack.enter_context(client)  # which closes its input, at whose end it ends
        subject = Subject(client, engine)
        subject.measure(_WARM_UP)
        yield subject
