"""One trial of a conversion: inputs, and what the module itself makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from redisai_engine.codec.values import Array


@dataclass(frozen=True)
class Trial:
    """
    Inputs, and the module's own answers to them. If it raises for them, `answers` is empty and `problem` says why.

    `sensitivity` is how much the answers change, relative to the largest number, if the inputs' last bits change.
    """

    arrays: list[Array]
    answers: list[Array]
    problem: str | None = None
    sensitivity: float = 0.0
