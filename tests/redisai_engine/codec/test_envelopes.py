"""
Every JSON form that MLflow knows, written to a file and read by pandas.read_json, as `mlflow deployments predict` does.

Where the command line itself is meant, the test runs under MLflow's own command, with a client that keeps its input.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import from_json, unwrap
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.protocol import dtypes

TYPES = {"code": "string", "made_at": "string", "amount": "double", "count": "long", "paid": "boolean"}
DTYPES = {
    "string": dtypes.STRING,
    "double": dtypes.DOUBLE,
    "long": dtypes.INT64,
    "boolean": dtypes.BOOL,
}
ROWS: list[dict[str, Any]] = [
    {"code": "001", "made_at": "2024-01-05", "amount": 1.0, "count": 3, "paid": True},
    {"code": "7", "made_at": "2023-12-31", "amount": 2.0, "count": 4, "paid": False},
]
SPLIT = {"columns": list(TYPES), "data": [list(row.values()) for row in ROWS]}
FORMS: dict[str, Any] = {
    "records": ROWS,
    "columns": {name: [row[name] for row in ROWS] for name in TYPES},
    "columns by row label": {name: {"0": ROWS[0][name], "1": ROWS[1][name]} for name in TYPES},
    "dataframe_split": {"dataframe_split": SPLIT},
    "dataframe_split with index": {"dataframe_split": {**SPLIT, "index": [7, 9]}},
    "dataframe_split with params": {"dataframe_split": SPLIT, "params": {"temperature": 1}},
    "dataframe_records": {"dataframe_records": ROWS},
    "inputs": {"inputs": {name: [row[name] for row in ROWS] for name in TYPES}},
    "inputs as records": {"inputs": ROWS},
    "instances": {"instances": ROWS},
}


def mapping() -> Mapping:
    """A model with a tensor for each of five columns of different types."""
    fields = tuple(Field(name, kind, DTYPES[kind]) for name, kind in TYPES.items())
    inputs = tuple(Input(item.name or "", item.dtype, (None, 1), (index,)) for index, item in enumerate(fields))
    answer = Answer("ndarray", (Part("y"),))
    return Mapping(inputs, (Output("y"),), (0,), answer, Schema("columns", fields))


def matrix_mapping(*, names: tuple[str, ...] = (), kind: str = "double") -> Mapping:
    if names:
        schema = Schema("columns", tuple(Field(name, kind, DTYPES[kind]) for name in names))
    else:
        schema = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, 2)),))
    inputs = (Input("x", DTYPES[kind], (None, 2), tuple(range(len(names))) or (0,)),)
    return Mapping(inputs, (Output("y"),), (0,), Answer("ndarray", (Part("y"),)), schema)


def columns(tensors: list[Any]) -> dict[str, list[Any]]:
    return {name: tensor.array().ravel().tolist() for name, tensor in zip(TYPES, tensors, strict=True)}


EXPECTED = {name: [row[name] for row in ROWS] for name in TYPES}


class KeepsInput:
    """What the command line gives to a client, encoded as the client would while the command runs."""

    mapping: Mapping
    got: list[Any]


@pytest.fixture
def predict_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs MLflow's own predict command on a document, with a client that encodes its input and answers nothing."""
    from click.testing import CliRunner
    from mlflow.deployments import cli, interface

    from mlflow_redisai.predict.predictions import Predictions

    class Client(KeepsInput):
        def predict(self, deployment_name: str, inputs: Any) -> Predictions:
            KeepsInput.got = Encoder(KeepsInput.mapping).encode(inputs)
            return Predictions([])

    monkeypatch.setattr(interface, "get_deploy_client", lambda target: Client())

    def run(document: Any, how: Mapping) -> list[Any]:
        KeepsInput.mapping = how
        path = tmp_path / "input.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        arguments = ["predict", "-t", "redisai", "--name", "m", "-I", str(path)]
        CliRunner().invoke(cli.commands, arguments, catch_exceptions=False, standalone_mode=False)
        return KeepsInput.got

    return run


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_its_values_on_the_command_line(form: str, predict_command: Any) -> None:
    """Also "001", dates as text and 1.0, which pandas.read_json has bent by then."""
    assert columns(predict_command(FORMS[form], mapping())) == EXPECTED


@pytest.mark.parametrize("form", [form for form in FORMS if "columns" not in form and form != "records"])
def test_every_envelope_keeps_its_values_through_read_json(form: str) -> None:
    """The cells of an envelope's frame hold the JSON values untouched, so a program's own frame will do."""
    frame = pd.read_json(io.StringIO(json.dumps(FORMS[form])))

    assert columns(Encoder(mapping()).encode(frame)) == EXPECTED


@pytest.mark.parametrize("form", [form for form in FORMS if "label" not in form])
def test_every_form_works_as_python_values(form: str) -> None:
    assert columns(Encoder(mapping()).encode(FORMS[form])) == EXPECTED


@pytest.mark.parametrize("form", ["records", "columns"])
def test_text_that_read_json_turned_into_numbers_is_never_guessed(form: str) -> None:
    """Outside the command line the file is out of reach: the sentence says how to read it."""
    rows = [{**row, "code": code} for row, code in zip(ROWS, ["001", "002"], strict=True)]
    document = rows if form == "records" else {name: [row[name] for row in rows] for name in TYPES}
    frame = pd.read_json(io.StringIO(json.dumps(document)))

    with pytest.raises(
        InputMismatch, match=r"column 'code' must be string, got 1 .* pandas\.read_json\(\.\.\., dtype=F"
    ):
        Encoder(mapping()).encode(frame)


def test_times_that_read_json_made_are_put_right_on_the_command_line(predict_command: Any) -> None:
    document = {"modified": [1700000000, 1700000001], "timestamp": [1.5, 2.5]}
    fields = (Field("modified", "long", dtypes.INT64), Field("timestamp", "double", dtypes.DOUBLE))
    inputs = (Input("modified", dtypes.INT64, (None, 1), (0,)), Input("timestamp", dtypes.DOUBLE, (None, 1), (1,)))
    how = Mapping(inputs, (Output("y"),), (0,), Answer("ndarray", (Part("y"),)), Schema("columns", fields))
    assert pd.read_json(io.StringIO(json.dumps(document)))["modified"].dtype.kind == "M"

    tensors = predict_command(document, how)

    assert [tensor.array().ravel().tolist() for tensor in tensors] == [[1700000000, 1700000001], [1.5, 2.5]]


@pytest.mark.parametrize(
    "document",
    [
        [[1, 2.5], [3, 4]],
        {"inputs": [[1, 2.5], [3, 4]]},
        {"instances": [[1, 2.5], [3, 4]]},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2.5], [3, 4]]}},
        {"dataframe_split": {"data": [[1, 2.5], [3, 4]]}},
        {"a": [1, 3], "b": [2.5, 4]},
    ],
    ids=str,
)
def test_forms_of_a_matrix(document: Any, predict_command: Any) -> None:
    """A model trained on an array takes rows without names, and columns in their order."""
    expected = [[1, 2.5], [3, 4]]

    assert predict_command(document, matrix_mapping())[0].array().tolist() == expected
    frame = pd.read_json(io.StringIO(json.dumps(document)))
    assert Encoder(matrix_mapping()).encode(frame)[0].array().tolist() == expected


def test_whole_numbers_written_with_a_point_are_integers(predict_command: Any) -> None:
    tensors = predict_command('{"a": [1.0, 2.0], "b": [3, 4.0]}', matrix_mapping(names=("a", "b"), kind="long"))

    assert tensors[0].array().tolist() == [[1, 3], [2, 4]]


def test_null_is_nan_for_a_double(predict_command: Any) -> None:
    tensors = predict_command('{"a": [1, null], "b": [null, 2]}', matrix_mapping(names=("a", "b")))

    np.testing.assert_array_equal(tensors[0].array(), [[1, np.nan], [np.nan, 2]])


@pytest.mark.parametrize("column", ["inputs", "instances", "dataframe_split"])
def test_a_column_named_like_an_envelope_is_a_column(column: str) -> None:
    how = matrix_mapping(names=(column, "b"))

    assert Encoder(how).encode({column: [1.5], "b": [2]})[0].array().tolist() == [[1.5, 2]]
    assert Encoder(how).encode(pd.DataFrame({column: [1.5], "b": [2]}))[0].array().tolist() == [[1.5, 2]]


def test_a_bare_split_form_is_read_where_it_arrives() -> None:
    """MLflow's command can't read it unless it has as many rows as columns; Python can always give it."""
    document = {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 2], [3, 4]]}
    how = matrix_mapping(names=("a", "b"))

    assert Encoder(how).encode(document)[0].array().tolist() == [[1, 2], [3, 4]]
    assert Encoder(how).encode(pd.read_json(io.StringIO(json.dumps(document))))[0].array().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"inputs": [1], "instances": [1]}, "must have one of inputs, instances, .*, got inputs and instances"),
        ({"dataframe_split": [1]}, "dataframe_split must be an object with columns and data, got list"),
        (
            {"dataframe_split": {"columns": ["a"]}},
            "the split form has the keys columns, data and perhaps index, got col",
        ),
        (
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}},
            r"row 0 of data must be a list of 2 values, got \[",
        ),
        ({"dataframe_split": {"columns": ["a"], "data": 5}}, "data must be a list of rows, got int"),
        ({"dataframe_records": {"a": 1}}, "dataframe_records must be a list of objects, got dict"),
        (5, "the input must be a JSON list or object, got 5"),
    ],
)
def test_what_is_no_form_is_told(document: Any, sentence: str) -> None:
    with pytest.raises(InputMismatch, match=sentence):
        from_json(document)


def test_other_values_pass_untouched() -> None:
    array = np.ones(2)

    assert unwrap(array) is array
    assert unwrap(None) is None
