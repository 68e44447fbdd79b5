"""What came of a fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """
    What came of a fault, for people to read.

    `problems` are reasons to fail: lost or wrong data, and errors that clients should never see.
    """

    saw: str  # by clients, besides right answers
    pause_s: float | None  # the longest time in which no client was answered
    work: str  # that was done meanwhile
    problems: list[str]
