"""The answer's JSON is valid for every container, and `get_predictions` returns pyfunc's own object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import PredictionsResponse
from mlflow.exceptions import MlflowException

from mlflow_redisai.predict.response import Predictions

ANSWERS: list[Any] = [
    np.array([1, 2]),
    [np.ones((1, 2)), np.zeros((1, 1))],
    {"label": np.array(["x"]), "p": np.array([[0.25, 0.75]], np.float32)},
    pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    pd.Series([1.5, np.nan]),
]


def test_its_json_is_valid_where_numbers_are_missing_or_infinite() -> None:
    text = Predictions({"p": np.array([[0.5, np.nan], [np.inf, 1]])}).to_json()

    assert text is not None
    assert json.loads(text) == {"predictions": {"p": [[0.5, None], [None, 1.0]]}}


def test_json_goes_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"

    assert Predictions(np.array(["ä"], object)).to_json(str(path)) is None
    assert json.loads(path.read_text(encoding="utf-8")) == {"predictions": ["ä"]}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_predictions_come_back_as_pyfunc_gave_them(answer: Any) -> None:
    assert Predictions(answer).get_predictions() is answer


def test_a_frame_or_an_array_can_be_asked_for() -> None:
    answer = Predictions(np.array([[1, 2], [3, 4]]))

    assert answer.get_predictions("dataframe").to_numpy().tolist() == [[1, 2], [3, 4]]
    assert answer.get_predictions("ndarray", dtype="float32").dtype == np.float32


def test_a_dict_with_a_matrix_becomes_a_frame_with_a_column_of_rows() -> None:
    answer = Predictions({"label": np.array([1, 2]), "p": np.array([[0.1, 0.9], [0.8, 0.2]])})

    frame = answer.get_predictions("dataframe")

    assert frame["p"].tolist()[1].tolist() == [0.8, 0.2]


def test_another_format_is_refused() -> None:
    with pytest.raises(MlflowException, match="Unrecognized predictions format: 'csv'"):
        Predictions([1]).get_predictions("csv")


def test_it_is_mlflows_own_response() -> None:
    """Clients check for the class and read the dict."""
    answer = Predictions([1, 2])

    assert isinstance(answer, PredictionsResponse)
    assert dict(answer) == {"predictions": [1, 2]}
    assert PredictionsResponse.from_json(answer.to_json()) == {"predictions": [1, 2]}
