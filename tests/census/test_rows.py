"""The rows of the census: names that repeat them, every documented value, and data that a seed determines."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import SplineTransformer

from census import data, scikit
from census.families import row_named
from census.options import changes


def test_a_name_gives_the_row_back() -> None:
    rows = list(scikit.rows())
    names = Counter(row.name for row in rows)

    assert len(rows) > 10_000
    assert [name for name, count in names.items() if count > 1] == []
    assert all(row_named(row.name) == row for row in rows)


def test_every_estimator_of_scikit_learn_has_rows() -> None:
    assert {row.subject for row in scikit.rows()} == set(scikit.kinds())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (KNeighborsClassifier, {"weights": "distance"}),
        (KNeighborsClassifier, {"metric": "chebyshev"}),
        (LogisticRegression, {"fit_intercept": False}),
        (LogisticRegression, {"class_weight": "balanced"}),
        (RandomForestClassifier, {"max_features": None}),
        (RandomForestClassifier, {"max_features": 1.0}),
        (SplineTransformer, {"extrapolation": "periodic"}),
    ],
)
def test_documented_values_are_tried_one_at_a_time(kind: type, change: dict[str, object]) -> None:
    assert change in list(changes(kind, {}))


@pytest.mark.parametrize("name", data.NAMES)
def test_a_seed_determines_the_data_and_the_questions(name: str) -> None:
    first, second, other = data.made(name, 1), data.made(name, 1), data.made(name, 2)

    assert first.frame.equals(second.frame)
    assert not first.frame.equals(other.frame)
    for left, right in zip(
        data.questions(first.frame, first.random), data.questions(second.frame, second.random), strict=True
    ):
        assert left.name == right.name
        assert left.inputs.equals(right.inputs)


def test_questions_stand_beside_the_numbers_of_the_training() -> None:
    made = data.made("real", 1)

    rows = data.beside(made.frame, made.random)

    known = made.frame["a"].to_numpy()
    steps = [np.nextafter(known, np.inf), np.nextafter(known, -np.inf)]
    assert np.isin(rows["a"], steps).any()
    assert np.isin(rows["a"], known).any()


def test_a_mixed_model_is_asked_what_it_may_refuse() -> None:
    made = data.made("mixed", 1)

    names = {question.name for question in data.questions(made.frame, made.random)}

    assert {"infinity in 'a'", "a gap in 'b'", "an unknown category in 'city'", "None in 'size'"} <= names
