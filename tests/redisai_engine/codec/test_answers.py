"""A model's tensors become what pyfunc returns: its containers, types, shapes and labels."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redisai_engine.codec.answers import decode, plain
from redisai_engine.codec.errors import AnswerMismatch
from redisai_engine.codec.mapping import Answer, Mapping, Output, Part
from redisai_engine.protocol.tensor import Tensor


def answer(container: Any, *parts: Part) -> Mapping:
    outputs = tuple(Output(part.name) for part in parts)
    return Mapping((), outputs, tuple(range(len(parts))), Answer(container, parts))


def test_types_and_shapes_are_pyfuncs() -> None:
    mapping = answer("ndarray", Part("y", "float64", (-1,)))

    got = decode([Tensor.from_array(np.ones((3, 1), np.float32))], mapping)

    assert (got.dtype, got.shape) == (np.float64, (3,))


def test_labels_get_their_text_type_back() -> None:
    got = decode([Tensor.from_array(np.array(["a", "bb"]))], answer("ndarray", Part("y", "<U5", (-1,))))

    assert got.dtype == np.dtype("<U5")


@pytest.mark.parametrize(
    ("array", "part", "reason"),
    [
        (np.ones(3, np.float32), Part("y", shape=(2, 2)), "cannot reshape array of size 3 into shape (2,2)"),
        (np.ones(3, np.float32), Part("y", labels=("a", "b")), "'float' object is not iterable"),
        (np.array([5]), Part("y", choices=("no", "yes")), "index 5 is out of bounds for axis 0 with size 2"),
    ],
)
def test_tensors_of_another_model_are_refused(array: Any, part: Part, reason: str) -> None:
    tensor = Tensor.from_array(array)

    with pytest.raises(AnswerMismatch) as caught:
        decode([tensor], answer("ndarray", part))

    assert str(caught.value) == (
        f"the server answered {tensor.dtype.name} {tensor.shape}, which doesn't fit the deployment: {reason}"
    )


def test_an_array_may_be_written_to() -> None:
    got = decode([Tensor.from_array(np.zeros(2))], answer("ndarray", Part("y")))
    got[0] = 1

    assert got.tolist() == [1, 0]


@pytest.mark.parametrize(("inputs", "kind"), [(pd.DataFrame(), pd.DataFrame), (np.ones(1), dict)])
def test_an_answer_like_the_input(inputs: Any, kind: type) -> None:
    mapping = answer("like input", Part("y"))

    assert type(decode([Tensor.from_array(np.zeros((2, 1)))], mapping, inputs)) is kind


def test_parts_of_one_shape_stacked() -> None:
    mapping = answer("stack", Part("a"), Part("b"))
    parts = [Tensor.from_array(np.full((3, 1), value)) for value in (1.0, 2.0)]

    assert decode(parts, mapping).tolist() == [[[1.0]] * 3, [[2.0]] * 3]


def test_lists_and_cells_as_old_saved_models_answer() -> None:
    """Parts with one value per row are flattened, all others become lists."""
    mapping = answer("cells like input", Part("score", None, (-1,)), Part("both"))
    parts = [Tensor.from_array(np.array([[1.0], [2.0]])), Tensor.from_array(np.array([[1, 2], [3, 4]]))]

    listed = decode(parts, mapping, {})
    cells = decode(parts, mapping, pd.DataFrame())

    assert listed["score"].tolist() == [1.0, 2.0]
    assert listed["both"] == [[1, 2], [3, 4]]
    assert cells.to_dict("list") == {"score": [1.0, 2.0], "both": [[1, 2], [3, 4]]}


def test_dicts_by_label() -> None:
    mapping = answer("dict", Part("p", None, None, ("a", "b")))

    assert decode([Tensor.from_array(np.array([[0.25, 0.75]]))], mapping) == {"p": [{"a": 0.25, "b": 0.75}]}


CASES: list[tuple[Any, Any]] = [
    (np.array([1, 2]), [1, 2]),
    (np.array(["a", "b"], object), ["a", "b"]),
    (np.array([[0.5, np.nan], [np.inf, 1]]), [[0.5, None], [None, 1.0]]),
    (np.array([True]), [True]),
    ([np.ones((1, 2)), np.zeros((1, 1))], [[[1.0, 1.0]], [[0.0]]]),
    ({"label": np.array(["x"]), "p": np.array([[0.25, 0.75]], np.float32)}, {"label": ["x"], "p": [[0.25, 0.75]]}),
    ([{np.int64(0): np.float32(0.5), 1: 0.5}], [{"0": 0.5, "1": 0.5}]),
    (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
    (pd.Series([1.5, np.nan]), [1.5, None]),
    (pd.DataFrame({"t": [pd.Timestamp("2024-01-05"), pd.NaT]}), [{"t": "2024-01-05T00:00:00"}, {"t": None}]),
    (np.float32(0.5), 0.5),
    ([b"raw", pd.NA, datetime.date(2024, 1, 5)], ["raw", None, "2024-01-05"]),
    ("größer", "größer"),
]


@pytest.mark.parametrize(("answer", "expected"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_every_container_has_a_plain_form(answer: Any, expected: Any) -> None:
    assert json.loads(json.dumps(plain(answer), allow_nan=False)) == expected
