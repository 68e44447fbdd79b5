"""MLflow's JSON forms keep their values: as parsed documents, as Python values, and through pandas.read_json."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import Document, from_json, unwrap
from redisai_engine.codec.errors import InputMismatch
from support.json_forms import EXPECTED, FORMS, ROWS, TYPES, columns, mapping, matrix_mapping


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_its_values_as_a_document(form: str) -> None:
    """As an HTTP front would have it: parsed, and nothing else."""
    assert columns(Encoder(mapping()).encode(Document(FORMS[form]))) == EXPECTED


@pytest.mark.parametrize("form", FORMS)
def test_a_frames_values_are_taken_from_the_document_that_it_was_read_from(form: str) -> None:
    """ "001", dates as text and 1.0 included, which pandas.read_json has already changed."""
    frame = pd.read_json(io.StringIO(json.dumps(FORMS[form])))

    assert columns(Encoder(mapping()).encode(frame, Document(FORMS[form]))) == EXPECTED


def test_a_frame_that_is_what_the_model_takes_is_not_read_again() -> None:
    frame = pd.DataFrame({"a": [1.5], "b": [2.5]})

    tensors = Encoder(matrix_mapping(names=("a", "b"))).encode(frame, Document("not looked at"))

    assert tensors[0].array().tolist() == [[1.5, 2.5]]


@pytest.mark.parametrize("form", [form for form in FORMS if "columns" not in form and form != "records"])
def test_every_envelope_keeps_its_values_through_read_json(form: str) -> None:
    """The cells of an envelope's frame hold the JSON values unchanged, so a frame that a program made works too."""
    frame = pd.read_json(io.StringIO(json.dumps(FORMS[form])))

    assert columns(Encoder(mapping()).encode(frame)) == EXPECTED


@pytest.mark.parametrize("form", [form for form in FORMS if "label" not in form])
def test_every_form_works_as_python_values(form: str) -> None:
    assert columns(Encoder(mapping()).encode(FORMS[form])) == EXPECTED


@pytest.mark.parametrize("form", ["records", "columns"])
def test_text_that_read_json_turned_into_numbers_is_never_guessed(form: str) -> None:
    """Outside the command line, the file is out of reach. The message says how to read it."""
    rows = [{**row, "code": code} for row, code in zip(ROWS, ["001", "002"], strict=True)]
    document = rows if form == "records" else {name: [row[name] for row in rows] for name in TYPES}
    frame = pd.read_json(io.StringIO(json.dumps(document)))

    with pytest.raises(
        InputMismatch, match=r"column 'code' must be string, got 1 .* pandas\.read_json\(\.\.\., dtype=F"
    ):
        Encoder(mapping()).encode(frame)


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
def test_forms_of_a_matrix(document: Any) -> None:
    """A model trained on an array takes rows without names, and columns in their order."""
    frame = pd.read_json(io.StringIO(json.dumps(document)))
    encoder = Encoder(matrix_mapping())

    encoded = [encoder.encode(Document(document)), encoder.encode(frame, Document(document)), encoder.encode(frame)]

    assert [tensors[0].array().tolist() for tensors in encoded] == [[[1, 2.5], [3, 4]]] * 3


def test_whole_numbers_written_with_a_point_are_integers() -> None:
    document = Document(json.loads('{"a": [1.0, 2.0], "b": [3, 4.0]}'))

    tensors = Encoder(matrix_mapping(names=("a", "b"), kind="long")).encode(document)

    assert tensors[0].array().tolist() == [[1, 3], [2, 4]]


def test_null_is_nan_for_a_double() -> None:
    document = Document(json.loads('{"a": [1, null], "b": [null, 2]}'))

    tensors = Encoder(matrix_mapping(names=("a", "b"))).encode(document)

    np.testing.assert_array_equal(tensors[0].array(), [[1, np.nan], [np.nan, 2]])


@pytest.mark.parametrize("column", ["inputs", "instances", "dataframe_split"])
def test_a_column_named_like_an_envelope_is_a_column(column: str) -> None:
    how = matrix_mapping(names=(column, "b"))

    assert Encoder(how).encode({column: [1.5], "b": [2]})[0].array().tolist() == [[1.5, 2]]
    assert Encoder(how).encode(pd.DataFrame({column: [1.5], "b": [2]}))[0].array().tolist() == [[1.5, 2]]


def test_a_bare_split_form_is_read_where_it_arrives() -> None:
    """MLflow's command can read it only if it has as many rows as columns. From Python it can always be passed."""
    document = {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 2], [3, 4]]}
    how = matrix_mapping(names=("a", "b"))

    assert Encoder(how).encode(document)[0].array().tolist() == [[1, 2], [3, 4]]
    assert Encoder(how).encode(pd.read_json(io.StringIO(json.dumps(document))))[0].array().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"inputs": [1], "instances": [1]}, "must have only one of inputs, instances, .*, got inputs and instances"),
        ({"dataframe_split": [1]}, "dataframe_split must be an object with columns and data, got list"),
        (
            {"dataframe_split": {"columns": ["a"]}},
            "the split form must have data and may have columns and index, got col",
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


class TestParams:
    """A parameter's value is never dropped: only the one that the deployment answers for is taken."""

    PARAMS = (("margin", False), ("top", 3), ("heat", 1.0), ("name", None), ("ids", [1, 2]))

    @pytest.mark.parametrize(
        "given", [None, {}, {"margin": False, "top": 3}, {"heat": 1}, {"name": None}, {"ids": [1, 2]}], ids=str
    )
    def test_the_default_changes_nothing(self, given: Any) -> None:
        assert unwrap({"inputs": [[1]], "params": given}, params=self.PARAMS) == [[1]]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"margin": True}, "margin=True, but this deployment answers only for margin=False, the default"),
            ({"margin": 0}, "margin=0"),
            ({"top": 3.0}, "top=3.0"),
            ({"top": "3"}, "top='3'"),
            ({"ids": [2, 1]}, r"ids=\[2, 1\]"),
            ({"top": None}, "top=None"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("document", [True, False], ids=["document", "values"])
    def test_another_value_is_refused(self, given: Any, said: str, document: bool) -> None:  # noqa: FBT001
        envelope = {"dataframe_split": {"columns": ["a"], "data": [[1]]}, "params": given}

        with pytest.raises(InputMismatch, match=f"params ask for {said}"):
            unwrap(Document(envelope) if document else envelope, params=self.PARAMS)

    def test_another_value_is_refused_in_a_frame_that_pandas_made_of_an_envelope(self) -> None:
        frame = pd.read_json(io.StringIO(json.dumps({"inputs": {"a": [1, 2]}, "params": {"top": 4}})))

        with pytest.raises(InputMismatch, match="params ask for top=4"):
            unwrap(frame, params=self.PARAMS)

    def test_a_parameter_that_the_signature_lacks_is_ignored(self, caplog: pytest.LogCaptureFixture) -> None:
        assert unwrap({"inputs": [[1]], "params": {"other": 1}}, params=self.PARAMS) == [[1]]
        assert "ignoring params that the model's signature doesn't have: ['other']" in caplog.text

    def test_of_a_model_without_parameters_whatever_stands_for_them_is_ignored(self) -> None:
        for params in ("top", 3, []):
            assert unwrap({"inputs": [[1]], "params": params}) == [[1]]

    def test_params_that_are_no_object_are_refused(self) -> None:
        with pytest.raises(InputMismatch, match="params must be an object of names and values, got 'top'"):
            unwrap({"inputs": [[1]], "params": "top"}, params=self.PARAMS)
