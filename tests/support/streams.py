"""Cutting byte streams into chunks, as a network does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the chunks of `data`, cut before each of these offsets. Some may be empty."""
    return [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]
