"""Answers of a library's methods, in the shapes that the graph declares for its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.trials.methods import Method, as_declared, reference_of
from redisai_engine.codec.mapping import Output


@pytest.mark.parametrize(
    ("answer", "declared", "shape"),
    [
        (np.ones(3), (None,), (3,)),
        (np.ones(3), (None, 1), (3, 1)),
        (np.ones((3, 1)), (None,), (3,)),
        (np.ones((3, 2)), (None, 2), (3, 2)),
        (np.ones((3, 2)), (None,), (3, 2)),
        (np.ones(3), None, (3,)),
        ([1, 2, 3], (None, 1), (3, 1)),
    ],
)
def test_one_number_a_row_is_a_column_where_a_matrix_is_declared(answer: Any, declared: Any, shape: Any) -> None:
    assert as_declared(answer, declared).shape == shape


def found(*outputs: str) -> Reference | NoReference:
    methods = {
        "twice": Method("double", lambda rows: rows * 2),
        "thrice": Method("triple", lambda rows: rows * 3),
        "again": Method("double", lambda rows: rows * 2),
    }
    return reference_of("Multiplier", [Output(name) for name in outputs], methods.get)


def test_one_output_is_an_array_and_several_are_a_dict_in_their_order() -> None:
    one, several = found("twice"), found("thrice", "twice")

    assert isinstance(one, Reference)
    assert isinstance(several, Reference)
    assert one.answer(np.ones(2)).tolist() == [2, 2]
    assert {name: array.tolist() for name, array in several.answer(np.ones(1)).items()} == {"thrice": [3], "twice": [2]}
    assert list(several.answer(np.ones(1))) == ["thrice", "twice"]


def test_each_method_is_named_once() -> None:
    kinds = [one.kind for one in (found("twice"), found("twice", "again", "thrice")) if isinstance(one, Reference)]

    assert kinds == ["Multiplier's own double", "Multiplier's own double and triple"]


def test_an_output_without_method_leaves_nothing_to_compare_with() -> None:
    assert found("twice", "sum", "mean") == NoReference("Multiplier itself has no method that gives 'sum', 'mean'")
