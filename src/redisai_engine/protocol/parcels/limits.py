"""What both directions agree on: the mark of a node, and how much of everything a parcel may have."""

from __future__ import annotations

from typing import Any

TAG = "!"
DEEPEST = 100  # levels of lists and objects in each other
MOST_DIGITS = 4300  # as Python's own limit, which not every 3.9 has
MOST_BITS = 14_000
MOST_PARTS = 100_000  # arrays, frames, columns: each takes thousands of bytes, however little it holds
MOST_BARE_ROWS = 10_000_000  # rows of a frame without columns, which no buffer backs

Node = Any


def name_of(value: Any) -> str:
    """Return the name of a value's type."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
