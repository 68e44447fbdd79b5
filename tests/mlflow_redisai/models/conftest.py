"""Shared by the tests of the converters: it records the largest differences that they see, for docs/flavors.md."""

from __future__ import annotations

from support import flavors_seen


def pytest_sessionfinish() -> None:
    flavors_seen.write_if_asked()
