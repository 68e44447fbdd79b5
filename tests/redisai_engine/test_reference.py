"""The engine's generated pages are in step with its tables."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from redisai_engine.commands.table import COMMANDS
from redisai_engine.config import Settings, flag
from redisai_engine.reference import PAGES

FOLDER = Path(__file__).parents[2] / "docs" / "engine"


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_in_step_with_the_table(page: str) -> None:
    """To write a page again: python -m redisai_engine.reference settings > docs/engine/settings.md (or commands)."""
    assert (FOLDER / f"{page}.md").read_text() == PAGES[page]()


def test_every_setting_and_every_command_is_told() -> None:
    settings, commands = PAGES["settings"](), PAGES["commands"]()

    assert [row.name for row in fields(Settings) if flag(row.name) not in settings] == []
    assert [name for name in COMMANDS if f"## {name.decode()}\n" not in commands] == []
