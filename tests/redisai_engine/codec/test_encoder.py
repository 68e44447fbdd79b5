"""Any container that a user passes becomes the model's tensors, or one sentence that says what doesn't fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Field, Input, Mapping, Output, Schema
from redisai_engine.protocol import dtypes
from support.mappings import ANSWER, matrix, unnamed


def rows_of(inputs: Any, mapping: Mapping) -> list[list[Any]]:
    rows: list[list[Any]] = Encoder(mapping).encode(inputs)[0].array().tolist()
    return rows


class TestContainers:
    @pytest.mark.parametrize(
        "inputs",
        [
            pd.DataFrame({"a": [1.5, 3], "b": [2.0, 4]}),
            pd.DataFrame({"b": [2.0, 4], "a": [1.5, 3]}),
            pd.DataFrame({"a": [1.5, 3], "b": [2, 4]}),
            pd.DataFrame({"a": [1.5, 3], "b": pd.array([2, 4], "Int64")}),
            pd.DataFrame({"a": [1.5, 3], "b": np.array([2, 4], object)}),
            pd.DataFrame([[1.5, 2], [3, 4]]),
            {"a": np.array([1.5, 3]), "b": np.array([2, 4])},
            {"a": [1.5, 3], "b": (2, 4)},
            {"a": pd.Series([1.5, 3]), "b": [2, 4]},
            [{"a": 1.5, "b": 2}, {"b": 4, "a": 3}],
            [[1.5, 2], [3, 4]],
            ((1.5, 2), (3, 4)),
            np.array([[1.5, 2], [3, 4]]),
            np.array([[1.5, 2], [3, 4]], np.float32),
            np.array([[1.5, 2], [3, 4]], object),
            [np.array([1.5, 2]), np.array([3, 4])],
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_rows_of_named_columns(self, inputs: Any) -> None:
        assert rows_of(inputs, matrix("a", "b")) == [[1.5, 2], [3, 4]]

    def test_frames_that_are_cut_from_one_frame_and_others_between_them(self) -> None:
        """An encoder caches the columns of the latest frame."""
        encoder = Encoder(matrix("a", "b"))
        frame = pd.DataFrame({"a": [1.5, 3], "b": [2.0, 4]})
        swapped = frame[["b", "a"]]
        renamed = frame.copy()

        first = [encoder.encode(each)[0].array().tolist() for each in (frame.head(1), swapped, frame.tail(1))]
        renamed.columns = pd.Index(["b", "a"])

        assert first == [[[1.5, 2]], [[1.5, 2], [3, 4]], [[3, 4]]]
        assert encoder.encode(renamed)[0].array().tolist() == [[2, 1.5], [4, 3]]

    @pytest.mark.parametrize(
        "inputs",
        [
            pd.Series([1.5, 2], name="a"),
            pd.Series([1.5, 2]),
            np.array([1.5, 2]),
            [1.5, 2],
            {"a": [1.5, 2]},
            pd.DataFrame({"a": [1.5, 2]}),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_rows_of_a_single_column(self, inputs: Any) -> None:
        assert rows_of(inputs, matrix("a")) == [[1.5], [2]]

    @pytest.mark.parametrize("inputs", [{"a": 1.5, "b": 2}, [{"a": 1.5, "b": 2}], [[1.5, 2]]], ids=str)
    def test_one_row(self, inputs: Any) -> None:
        assert rows_of(inputs, matrix("a", "b")) == [[1.5, 2]]

    @pytest.mark.parametrize(
        "inputs",
        [
            np.array([[1.5, 2], [3, 4]]),
            [[1.5, 2], [3, 4]],
            pd.DataFrame([[1.5, 2], [3, 4]]),
            pd.DataFrame({"any": [1.5, 3], "names": [2, 4]}),
            {"any": [1.5, 3], "names": [2, 4]},
            pd.DataFrame({"cells": [[1.5, 2], [3, 4]]}),
            [{"any": 1.5, "names": 2}, {"any": 3, "names": 4}],
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_rows_of_a_model_trained_on_an_array(self, inputs: Any) -> None:
        assert rows_of(inputs, unnamed()) == [[1.5, 2], [3, 4]]

    def test_many_rows_go_the_same_way_as_few(self) -> None:
        """Small frames are read in another way than large ones."""
        frame = pd.DataFrame({"a": np.arange(100), "b": np.arange(100) / 2})

        assert rows_of(frame, matrix("a", "b")) == [
            *rows_of(frame[:10], matrix("a", "b")),
            *rows_of(frame[10:], matrix("a", "b")),
        ]

    def test_a_frames_index_does_not_matter(self) -> None:
        frame = pd.DataFrame({"a": [1.0, 2], "b": [3.0, 4]}, index=["z", "y"])

        assert rows_of(frame, matrix("a", "b")) == [[1, 3], [2, 4]]

    def test_text_columns(self) -> None:
        frame = pd.DataFrame({"a": ["x", "001"], "b": pd.Categorical(["p", "q"])})

        assert rows_of(frame, matrix("a", "b", kind="string")) == [["x", "p"], ["001", "q"]]

    def test_images_keep_their_shape(self) -> None:
        schema = Schema("tensors", (Field(None, "uint8", dtypes.UINT8, (None, 2, 2)),))
        mapping = Mapping((Input("x", dtypes.UINT8, (None, 2, 2), (0,)),), (Output("y"),), (0,), ANSWER, schema)
        images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)

        assert rows_of(images, mapping) == images.tolist()
        assert rows_of(images.tolist(), mapping) == images.tolist()

    def test_sparse_matrices(self) -> None:
        from scipy.sparse import csr_matrix

        assert rows_of(csr_matrix([[1.5, 0], [0, 4]]), unnamed()) == [[1.5, 0], [0, 4]]

    def test_extra_columns_are_ignored_with_a_warning_as_in_mlflow(self, caplog: pytest.LogCaptureFixture) -> None:
        frame = pd.DataFrame({"z": ["?"], "a": [1.0], "b": [2.0]})

        assert rows_of(frame, matrix("a", "b")) == [[1, 2]]
        assert "['z']" in caplog.text


class TestRefused:
    """An input that breaks the signature is refused with one sentence: the column or tensor, expected and found."""

    @pytest.mark.parametrize(
        ("inputs", "sentence"),
        [
            (None, "there is no input; pass a DataFrame, a Series, an array, a dict of arrays, or a list"),
            (
                pd.DataFrame({"a": [1.0]}),
                r"column 'b' is missing; the model's signature has a \(double\), b \(double\)",
            ),
            (
                pd.DataFrame({"A": [1.0], "b": [1]}),
                "column 'a' is missing; .*; the input has 'A', which the model doesn't",
            ),
            (pd.DataFrame({"c": [1.0]}), "columns 'a', 'b' are missing"),
            (pd.DataFrame({"a": ["x"], "b": [1.0]}), "column 'a' must be double, got 'x'"),
            (pd.DataFrame({"a": [], "b": []}, dtype=float), "the input has no rows"),
            (pd.DataFrame(), "the input has no columns; the model's signature has a"),
            (
                pd.DataFrame([[1.0, 2.0, 3.0]]),
                r"has 2 columns \(a \(double\), b \(double\)\), but the input has 3 without",
            ),
            (
                pd.DataFrame([[1.0, 2, 3]], columns=["a", "a", "b"]),
                "the input has 2 columns named 'a'; keep one of them",
            ),
            (np.ones((2, 3)), "the input has 3 without names"),
            (np.ones((2, 2, 2)), r"an array must have two dimensions, got the shape \(2, 2, 2\)"),
            ([], "the input has no rows"),
            ([[1, 2], [3]], r"all rows must have 2 values, like the first, but row 1 is \[3\]"),
            ([{"a": 1, "b": 2}, [1, 2]], "rows must be either all objects or all lists"),
            ({"a": [1, 2], "b": [1]}, "the same number of rows, got column 'a': 2, column 'b': 1"),
            ({"a": [[1], [2]], "b": [1, 2]}, "column 'a' must be double, got \\[1\\]"),
            (object(), "predict can't read a object; pass a DataFrame"),
            ({1, 2}, "predict can't read a set"),
        ],
    )
    def test_columns(self, inputs: Any, sentence: str) -> None:
        with pytest.raises(InputMismatch, match=sentence):
            Encoder(matrix("a", "b")).encode(inputs)

    @pytest.mark.parametrize(
        ("inputs", "sentence"),
        [
            (np.ones((2, 3)), r"the input must have the shape \(any, 2\), got \(2, 3\)"),
            (np.ones(2), r"must have the shape \(any, 2\), got \(2,\)"),
            (np.array([["a", "b"]]), "the input must be float64, got 'a'"),
            (np.ones((0, 2)), "the input has no rows"),
            ([[1, 2], [3]], "rows of equal length, but some are longer than others"),
            (pd.DataFrame({"cells": [[1.5], [3]]}), r"must have the shape"),
        ],
    )
    def test_tensors(self, inputs: Any, sentence: str) -> None:
        with pytest.raises(InputMismatch, match=sentence):
            Encoder(unnamed()).encode(inputs)

    def test_a_gap_in_an_integer_column_names_row_and_way_out(self) -> None:
        frame = pd.DataFrame({"a": [1, None], "b": [1, 2]})

        with pytest.raises(
            InputMismatch, match="column 'a' must be long, which has no NaN, but the value in row 1 is miss"
        ):
            Encoder(matrix("a", "b", kind="long")).encode(frame)

    def test_text_with_a_zero_byte(self) -> None:
        with pytest.raises(InputMismatch, match="has a zero byte inside"):
            Encoder(matrix("a", kind="string")).encode({"a": ["x\0y"]})


def test_one_encoder_serves_many_threads() -> None:
    """Each thread sends frames with its own columns, in both orders, so that the cached columns change all the time."""
    encoder = Encoder(matrix("a", "b"))

    def encode(number: int) -> list[list[float]]:
        frame = pd.DataFrame({"a": [float(number)], "b": [-1.0]})
        return [encoder.encode(each)[0].array().tolist()[0] for each in (frame, frame[["b", "a"]])]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(encode, range(500)))

    assert found == [[[float(number), -1.0]] * 2 for number in range(500)]


class TestGaps:
    """A model that refuses NaN itself must not answer rows with NaN, on any path."""

    @pytest.mark.parametrize("rows", [1, 50])
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_gap_is_told_where_the_model_takes_none(self, rows: int, bad: float) -> None:
        fields = (Field("a", "double", dtypes.DOUBLE), Field("b", "double", dtypes.DOUBLE, gaps=False, infinite=False))
        inputs = (Input("x", dtypes.DOUBLE, (None, 2), (0, 1)),)
        mapping = Mapping(inputs, (Output("y"),), (0,), ANSWER, Schema("columns", fields))
        frame = pd.DataFrame({"a": np.ones(rows), "b": np.ones(rows)})

        assert rows_of(frame.assign(a=bad), mapping)[0][1] == 1
        with pytest.raises(
            InputMismatch, match=r"column 'b' has a value in row 0 that is .*, which this model doesn't accept"
        ):
            Encoder(mapping).encode(frame.assign(b=bad))


FLOATS = {"gaps": np.nan, "infinite": np.inf, "largest": -1e9, "least": -1.0, "known": 2.0}
INTEGERS = {"largest": -(10**9), "least": -1, "known": 2}


@pytest.mark.parametrize("kind", ["frame", "array"])
@pytest.mark.parametrize(
    ("dtype", "contract", "bad"),
    [
        *((dtype, contract, bad) for dtype in (dtypes.FLOAT, dtypes.DOUBLE) for contract, bad in FLOATS.items()),
        *((dtype, contract, bad) for dtype in (dtypes.INT32, dtypes.INT64) for contract, bad in INTEGERS.items()),
        (dtypes.INT64, "largest", -(2**63)),
    ],
)
def test_every_contract_holds_on_the_fast_path(dtype: Any, contract: str, bad: Any, kind: str) -> None:
    """A matrix of the model's own type isn't looked at column by column, unless it may break a contract."""
    limits = {"gaps": False, "infinite": False, "largest": 100.0, "least": 0.0, "known": (1,)}
    item = Field("a" if kind == "frame" else None, dtype.name, dtype, (), **{contract: limits[contract]})
    schema = Schema("columns", (item,)) if kind == "frame" else Schema("tensors", (replace(item, shape=(None, 1)),))
    mapping = Mapping((Input("x", dtype, (None, 1), (0,)),), (Output("y"),), (0,), ANSWER, schema)
    rows = np.ones((3, 1), dtype.numpy)
    bad_rows = rows.copy()
    bad_rows[1] = bad

    as_given = (lambda array: pd.DataFrame(array, columns=["a"])) if kind == "frame" else (lambda array: array)
    assert rows_of(as_given(rows), mapping) == rows.tolist()
    with pytest.raises(InputMismatch, match="in row 1"):
        Encoder(mapping).encode(as_given(bad_rows))


@pytest.mark.parametrize(
    ("mapping", "document", "message"),
    [
        (unnamed(), [{"a": 1, "b": 2}, None], "rows must be either all objects or all lists"),
        (
            unnamed(),
            {"a": [1, 2], "b": [1]},
            "all columns must have the same number of rows, got column 'a': 2, column 'b': 1",
        ),
        (unnamed(), {"columns": 1.5, "data": []}, "columns must be a list of names, got float"),
        (Mapping.generic(["x"], ["y"]), ["a\0b"], "tensor 'x': the text 'a\\x00b' has a zero byte inside"),
        (Mapping.generic(["x"], ["y"]), [1e300], "tensor 'x' must be FLOAT, but has numbers that are too large for it"),
        (
            matrix("a"),
            [[10**400], [1.5]],
            "column 'a' must be double, got an integer of 1329 bits, which is too large for 64 bits",
        ),
    ],
)
def test_json_that_the_fuzzer_found_is_refused(mapping: Mapping, document: Any, message: str) -> None:
    with pytest.raises(InputMismatch) as caught:
        Encoder(mapping).encode(Document(document))

    assert str(caught.value).startswith(message)
