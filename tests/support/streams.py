"""Cuts byte streams into chunks, as a network does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The chunks of `data` when it is cut before each of these offsets; some may be empty."""
    return [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]
