"""A model that answers differently is never deployed, and one without example is never said to be verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from mlflow_redisai.deploy.verification import NO_EXAMPLE, PASSED, Difference, compare, tolerance_of, verify
from mlflow_redisai.errors import VerificationFailed
from redisai_engine.codec.mapping import Answer, Mapping
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor
from support.local_runs import deploy, save_sklearn


@pytest.fixture
def regression(tmp_path: Path) -> Path:
    data = load_diabetes(as_frame=True)
    return save_sklearn(tmp_path / "model", LinearRegression().fit(data.data, data.target), data.data, example_rows=5)


def test_a_model_that_answers_the_same_passes(regression: Path) -> None:
    deployed = deploy(regression)

    found = verify(deployed.run, deployed.deployable, deployed.model)

    assert (found.status, found.rows) == (PASSED, 5)
    assert found.difference is not None
    assert found.difference < 1e-12
    assert json.loads(json.dumps(found.to_json()))["status"] == "passed"


def test_a_model_that_answers_differently_fails_with_the_largest_difference(regression: Path) -> None:
    deployed = deploy(regression)

    def run(tensors: list[Tensor]) -> list[Tensor]:
        return [Tensor.from_array(tensor.array() * 1.01) for tensor in deployed.run(tensors)]

    with pytest.raises(
        VerificationFailed, match=r"the largest difference is 0\.01 relative to .*; nothing was deployed"
    ):
        verify(run, deployed.deployable, deployed.model)


def test_another_label_fails(tmp_path: Path) -> None:
    data = load_iris(as_frame=True)
    deployed = deploy(save_sklearn(tmp_path / "m", GaussianNB().fit(data.data, data.target), data.data))

    def run(tensors: list[Tensor]) -> list[Tensor]:
        return [Tensor.from_array((tensor.array() + 1) % 3) for tensor in deployed.run(tensors)]

    with pytest.raises(VerificationFailed, match="3 of 3 labels differ, in row 0 expected 0, got 1"):
        verify(run, deployed.deployable, deployed.model)


def test_a_model_without_example_is_not_said_to_be_verified(tmp_path: Path) -> None:
    data = load_iris(as_frame=True)
    path = save_sklearn(tmp_path / "m", GaussianNB().fit(data.data, data.target), data.data, example_rows=0)
    deployed = deploy(path)

    assert verify(deployed.run, deployed.deployable, deployed.model).status == NO_EXAMPLE


def test_an_example_that_the_model_itself_refuses_is_told(tmp_path: Path) -> None:
    """A signature made of a list of text: MLflow gives scikit-learn a frame then, whose column name is no text."""
    text = ["good wine", "bad wine", "odd thing"] * 20
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(text, [line[0] for line in text])
    deployed = deploy(save_sklearn(tmp_path / "m", estimator, text))

    with pytest.raises(VerificationFailed) as caught:
        verify(deployed.run, deployed.deployable, deployed.model)

    assert caught.value.message == (
        "the stored model doesn't answer as mlflow.pyfunc does for the model's input example: mlflow.pyfunc itself "
        "fails on it ('int' object has no attribute 'lower'); log the model with an example that it answers, or "
        "deploy it with -C verify=off; nothing was deployed"
    )


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-7])),
        (np.array([1e-30, 1.0]), np.array([0.0, 1.0])),
        (np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0])),
        (np.array(["a"]), np.array(["a"], object)),
        (pd.DataFrame({"a": [1], "b": ["x"]}), pd.DataFrame({"a": [1], "b": ["x"]})),
        (pd.Series([1.0]), pd.Series([1.0])),
        ({"p": [{0: 0.5}]}, {"p": [{0: 0.5 + 1e-8}]}),
        ([np.ones(2), np.zeros(1)], [np.ones(2), np.zeros(1)]),
    ],
)
def test_what_is_the_same(expected: Any, actual: Any) -> None:
    compare(expected, actual, 1e-6)


@pytest.mark.parametrize(
    ("expected", "actual", "sentence"),
    [
        (np.array([1.0]), np.array([1.1]), r"the largest difference is 0\.1 relative to 1, allowed are 1e-06"),
        (np.ones(2), np.ones((2, 1)), r"expected the shape \(2,\), got \(2, 1\)"),
        (np.array([1]), np.array([2]), "1 of 1 labels differ"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "in row 1 expected .*'b'.*, got .*'c'"),
        (np.array([np.nan]), np.array([0.0]), "NaN or infinity stand at different places"),
        (np.ones(1), pd.DataFrame({"a": [1.0]}), "expected a ndarray, got a DataFrame"),
        ({"a": np.ones(1)}, {"b": np.ones(1)}, r"expected \['a'\], got \['b'\]"),
        ([np.ones(1)], [np.ones(1), np.ones(1)], "expected 1 items, got 2"),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [2.0]}), "^a: the largest difference is 1 "),
    ],
)
def test_what_is_not_the_same(expected: Any, actual: Any, sentence: str) -> None:
    with pytest.raises(Difference, match=sentence):
        compare(expected, actual, 1e-6)


class TestTolerance:
    """The documented rule: 128 units in the last place, times the root of the depth, and 1e-9 at least."""

    def mapping(self, depth: int, precision: dtypes.DType) -> Mapping:
        return replace(Mapping.generic(["x"], ["y"]), depth=depth, precision=precision, answer=Answer("ndarray", ()))

    @pytest.mark.parametrize(("depth", "expected"), [(1, 1.5e-5), (100, 1.5e-4)])
    def test_float32_grows_with_depth(self, depth: int, expected: float) -> None:
        assert tolerance_of(self.mapping(depth, dtypes.FLOAT)) == pytest.approx(expected, rel=0.05)

    def test_float64_has_a_floor(self) -> None:
        assert tolerance_of(self.mapping(10, dtypes.DOUBLE)) == 1e-9
