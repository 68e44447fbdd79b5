"""The help and docs/reference.md show what the tables parse."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_redisai import target_help
from mlflow_redisai.config import OPTIONS
from mlflow_redisai.help import reference
from mlflow_redisai.target import FORMS, PARAMETERS, VARIABLES

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


@pytest.mark.parametrize("text", [target_help(), reference()], ids=["help", "reference"])
def test_every_row_of_the_tables_is_told(text: str) -> None:
    names = [form for form, _ in FORMS] + [row.name for row in (*PARAMETERS, *VARIABLES, *OPTIONS)]

    assert [name for name in names if name not in text] == []


def test_the_reference_page_is_in_step_with_the_tables() -> None:
    """
    To regenerate it: python -c "from mlflow_redisai.help import reference as r; print(r(), end='')" > docs/reference.md
    """
    assert PAGE.read_text() == reference()
