"""Packages that are missing for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def without(module: str) -> Iterator[None]:
    """
    Have importing a module fail inside the block.

    Until the end of a test would be too long: pytest-randomly calls what installed packages have to reset seeds before
    fixtures are undone, and thinc's, once spaCy is there, imports torch. All later tests would fail.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module, None)
        yield
