"""A row that the model refuses must not hide those that it answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.models.trials.splitting import answered, rows_at, rows_in

FORMS = {
    "frame": lambda values: pd.DataFrame({"x": values}),
    "array": lambda values: values[:, None],
    "dict": lambda values: {"x": values, "y": values},
}


def numbers(inputs: Any) -> list[float]:
    values = inputs["x"] if isinstance(inputs, (dict, pd.DataFrame)) else inputs
    return np.ravel(values).tolist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [{0}, {7}, {3, 4}, {0, 5, 9}], ids=str)
def test_all_rows_but_the_refused_are_kept_in_their_order(form: str, bad: set[int]) -> None:
    inputs = FORMS[form](np.arange(200.0))

    found = answered(inputs, lambda rows: not bad & set(numbers(rows)))

    assert numbers(found) == [value for value in range(200) if value not in bad]


def test_what_is_answered_as_a_whole_is_asked_once() -> None:
    asked = []

    found = answered(np.ones((5, 2)), lambda rows: not asked.append(len(rows)))

    assert (len(found), asked) == (5, [5])


def test_where_every_row_is_refused_there_is_none() -> None:
    asked = []

    assert answered(np.ones((1000, 1)), lambda rows: bool(asked.append(len(rows)))) is None
    assert len(asked) < 50


def test_rows_that_are_refused_together_prove_nothing() -> None:
    assert answered(np.arange(8.0)[:, None], lambda rows: len(rows) < 3) is None


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_counted_and_picked(form: str) -> None:
    inputs = FORMS[form](np.arange(5.0))

    assert rows_in(inputs) == 5
    assert numbers(rows_at(inputs, np.array([4, 0]))) == [4, 0]
