"""The table of flavors is complete, and its page is up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import pytest

from mlflow_redisai.models.registry import FLAVORS, UNCONVERTED
from scripts import flavors as flavors_page


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_row_of_the_table_names_a_converter_that_is_there(flavor: str) -> None:
    assert callable(FLAVORS[flavor].load())


@pytest.mark.parametrize("flavor", UNCONVERTED)
def test_a_flavor_without_a_converter_says_why_and_what_works_instead(flavor: str) -> None:
    assert UNCONVERTED[flavor].why
    reason = str(UNCONVERTED[flavor])

    assert any(word in reason for word in ("log that", "log the", "log a ", "mlflow models serve", "call it there"))
    assert not reason.endswith(".")


def test_the_page_of_flavors_is_in_step_with_the_table() -> None:
    """Rewrite it with scripts/flavors. Measure again with RECORD_FLAVORS=1 scripts/test tests/mlflow_redisai/models."""
    assert flavors_page.PAGE.read_text() == flavors_page.page()


def test_every_flavor_of_this_mlflow_is_in_a_table() -> None:
    """A flavor is a module of MLflow's that saves models. `prompt` saves no model, and promptlab's is a pyfunc."""
    folder = Path(mlflow.__file__).parent
    modules = [path for path in folder.rglob("*.py") if re.search(r"^def save_model\(", path.read_text(), re.MULTILINE)]
    saving = {path.relative_to(folder).parts[0] for path in modules}

    assert saving - {"prompt", "pyfunc"} <= FLAVORS.keys() | UNCONVERTED.keys()


def test_every_flavor_was_tested() -> None:
    assert list(json.loads(flavors_page.SEEN.read_text())) == list(FLAVORS)
