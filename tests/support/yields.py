"""How often a process yields its core while it stays awake."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


def count_yields(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object] = lambda: None) -> list[None]:
    """Return what has an element for each time that a core was yielded. `then` is called each time."""
    yields: list[None] = []

    def record() -> None:
        yields.append(None)
        then()

    monkeypatch.setattr(os, "sched_yield", record)
    return yields
