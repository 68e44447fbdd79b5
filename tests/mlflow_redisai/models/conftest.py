"""What the tests of the converters share: the largest differences they see are kept for docs/flavors.md."""

from __future__ import annotations

from support import flavors_seen


def pytest_sessionfinish() -> None:
    flavors_seen.write_if_asked()
