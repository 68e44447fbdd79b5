"""What JSON means to a Python model is what MLflow's scoring server and its command line make of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from mlflow_redisai.models.python.convert import parcel_mapping
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Mapping
from redisai_engine.protocol.parcels import unpack
from redisai_engine.protocol.tensor import Tensor

COLUMNS = Schema([ColSpec(DataType.double, "x"), ColSpec(DataType.string, "name"), ColSpec(DataType.integer, "n")])
DATED = Schema([ColSpec(DataType.datetime, "when"), ColSpec(DataType.binary, "raw", required=False)])
ONE_COLUMN = Schema([ColSpec(DataType.string, "question")])
UNNAMED = Schema([ColSpec(DataType.double), ColSpec(DataType.double)])
MATRIX = Schema([TensorSpec(np.dtype(np.float32), (-1, 2))])
TENSORS = Schema([TensorSpec(np.dtype(np.float32), (-1, 2), "a"), TensorSpec(np.dtype(np.int64), (-1,), "b")])
TEXTS = Schema([TensorSpec(np.dtype(object), (-1,))])

ROWS = [{"x": 1, "name": "001", "n": 2}, {"x": 2.5, "name": "b", "n": 3}]
ENVELOPES: list[tuple[Any, Schema | None]] = [
    ({"dataframe_records": ROWS}, COLUMNS),
    ({"dataframe_records": ROWS}, None),
    ({"dataframe_split": {"columns": ["x", "name", "n"], "data": [[1, "a", 2]], "index": [7]}}, COLUMNS),
    ({"dataframe_split": {"data": [[1, 2], [3, 4]]}}, UNNAMED),
    ({"dataframe_records": [{"when": "2026-01-02T03:04:05", "raw": "AAE="}]}, DATED),
    ({"inputs": {"x": [1, 2], "name": ["a", "b"], "n": [1, 2]}}, COLUMNS),
    ({"inputs": ROWS}, COLUMNS),
    ({"inputs": ["what?", "why?"]}, ONE_COLUMN),
    ({"inputs": "what?"}, None),
    ({"inputs": [1, 2]}, None),
    ({"inputs": [[1, 2], [3, 4]]}, MATRIX),
    ({"instances": [[1, 2], [3, 4]]}, MATRIX),
    ({"inputs": {"a": [[1, 2]], "b": [3]}}, TENSORS),
    ({"instances": [{"a": [1, 2], "b": 3}, {"a": [4, 5], "b": 6}]}, TENSORS),
    ({"inputs": ["a", "bc"]}, TEXTS),
    ({"inputs": {"messages": [{"role": "user", "content": "hi"}]}}, None),
]


def taken(document: Any, schema: Schema | None, params: ParamSchema | None = None) -> tuple[Any, Any]:
    """Return what a Python model gets. The mapping is the one that a deployment keeps, read from its JSON."""
    signature = ModelSignature(inputs=schema, params=params) if schema is not None or params is not None else None
    mapping = Mapping.from_json(json.loads(json.dumps(parcel_mapping(signature).to_json())))
    [tensor] = Encoder(mapping).encode(Document(document))
    assert isinstance(tensor, Tensor)
    return unpack(tensor.blob)


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, check_dtype=True)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    else:
        assert left == right


@pytest.mark.parametrize(("document", "schema"), ENVELOPES)
def test_an_envelope_is_read_as_the_scoring_server_reads_it(document: Any, schema: Schema | None):
    expected = infer_and_parse_data(json.loads(json.dumps(document)), schema)

    found, params = taken(document, schema)

    assert_same(expected, found)
    assert params is None


@pytest.mark.parametrize(
    "document",
    [
        ROWS,
        {"x": [1, 2], "y": [3, 4]},
        {"x": {"0": 1.5, "1": 2}, "y": {"0": "a", "1": "b"}},
        [[1, 2], [3, 4]],
        ["a", "b"],
    ],
)
def test_a_document_without_an_envelope_is_the_frame_that_the_command_line_reads(document: Any):
    expected = pd.read_json(io.StringIO(json.dumps(document)), dtype=False)

    found, _ = taken(document, None)

    expected.index = pd.Index(found.index)  # "0" from JSON is a number for pandas.read_json
    assert found.to_dict("list") == expected.to_dict("list")


def test_a_matrix_without_an_envelope_is_an_array_for_a_model_that_takes_one():
    found, _ = taken([[1, 2], [3, 4]], MATRIX)

    assert_same(found, np.array([[1, 2], [3, 4]], np.float32))


def test_params_arrive_beside_the_input_and_beside_a_chat():
    params = ParamSchema([ParamSpec("temperature", DataType.double, 0.5)])
    messages = [{"role": "user", "content": "hi"}]

    assert taken({"inputs": [1], "params": {"temperature": 0.1}}, None, params)[1] == {"temperature": 0.1}
    assert taken({"messages": messages, "temperature": 0.1}, None, params) == (
        {"messages": messages},
        {"temperature": 0.1},
    )
    assert taken({"messages": messages, "user": "me"}, None) == ({"messages": messages, "user": "me"}, None)


def test_what_python_passes_is_taken_as_it_is():
    """Also where it looks like JSON: pyfunc would get it so."""
    mapping = parcel_mapping(None)
    for value in ({"inputs": [1]}, "text", pd.DataFrame({"inputs": [1]}), [{"a": None}], (1, 2)):
        [tensor] = Encoder(mapping).encode(value, params={"k": 1})
        assert_same(unpack(tensor.blob)[0], value)
        assert unpack(tensor.blob)[1] == {"k": 1}


@pytest.mark.parametrize(
    ("document", "schema", "message"),
    [
        ({"inputs": [["a"]]}, MATRIX, "the input must be float32, got [['a']]: could not convert string to float: 'a'"),
        ({"dataframe_split": []}, COLUMNS, "dataframe_split must be an object with columns and data, got list"),
        ({"x": [1], "y": [2, 3]}, None, "the input is no table: All arrays must be of the same length"),
    ],
)
def test_json_that_means_nothing_is_refused(document: Any, schema: Schema | None, message: str):
    with pytest.raises(InputMismatch) as error:
        taken(document, schema)

    assert str(error.value) == message


def test_an_object_that_no_parcel_takes_is_refused():
    encoder = Encoder(parcel_mapping(None))

    with pytest.raises(InputMismatch, match=r"^the value\['a'\] is a .*Path, which can't be sent$"):
        encoder.encode({"a": Path()})
