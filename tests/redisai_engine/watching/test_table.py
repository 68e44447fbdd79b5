"""The table of metrics, and everything that names one: docs/metrics.md, the dashboard, the alerts."""

from __future__ import annotations

from pathlib import Path

from redisai_engine.watching.table import page

ROOT = Path(__file__).parent.parent.parent.parent


def test_the_page_has_the_tables_as_they_are() -> None:
    assert page() in (ROOT / "docs" / "metrics.md").read_text()
