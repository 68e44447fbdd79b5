"""Turn-taking: everything once a round, so that the n-th figures of all series belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.rounds import Figures, Plan


def test_all_subjects_are_measured_in_every_round_and_every_other_round_goes_backwards(tmp_path: Path) -> None:
    measured: list[str] = []

    def subject(name: str) -> Callable[[], Figures]:
        def measure() -> Figures:
            measured.append(name)
            return {"number": float(len(measured))}

        return measure

    series = Plan("trial", tmp_path, 1.0, 3).in_turns({name: subject(name) for name in "abc"})

    assert "".join(measured) == "abccbaabc"
    assert series == {
        "a": [{"number": 1.0}, {"number": 6.0}, {"number": 7.0}],
        "b": [{"number": 2.0}, {"number": 5.0}, {"number": 8.0}],
        "c": [{"number": 3.0}, {"number": 4.0}, {"number": 9.0}],
    }
