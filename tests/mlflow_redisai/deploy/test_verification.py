"""
A model that answers differently is never deployed.

One with nothing to compare with is never reported as verified.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from mlflow_redisai.deploy.verification import NO_EXAMPLE, PASSED, PASSED_TRIALS, verify
from mlflow_redisai.errors import NotConvertible, VerificationFailed
from mlflow_redisai.models.reference import NoReference, Reference
from redisai_engine.protocol.tensor import Tensor
from support.local_runs import Deployed, deploy, save_sklearn


@pytest.fixture
def regression(tmp_path: Path) -> Path:
    data = load_diabetes(as_frame=True)
    return save_sklearn(tmp_path / "model", LinearRegression().fit(data.data, data.target), data.data, example_rows=5)


def test_a_model_that_answers_the_same_passes(regression: Path) -> None:
    deployed = deploy(regression)

    found = verify(deployed.run, deployed.deployable, deployed.model)

    assert (found.status, found.rows, found.reference) == (PASSED, 5, "mlflow.pyfunc")
    assert found.difference is not None
    assert found.difference < 1e-12
    assert json.loads(json.dumps(found.to_json())) == {
        "status": "passed",
        "rows": 5,
        "difference": found.difference,
        "tolerance": 1e-9,
        "reference": "mlflow.pyfunc",
        "trials": found.trials,
    }
    assert found.trials > 1000


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

    with pytest.raises(VerificationFailed, match="3 of 3 labels differ; in row 0, expected 0, got 1"):
        verify(run, deployed.deployable, deployed.model)


class TestWithoutExample:
    """A model without an input example is asked rows of its trials, on the server too."""

    @pytest.fixture
    def deployed(self, tmp_path: Path) -> Deployed:
        data = load_iris(as_frame=True)
        return deploy(save_sklearn(tmp_path / "m", GaussianNB().fit(data.data, data.target), data.data, example_rows=0))

    def test_it_is_verified_by_rows_of_its_trials(self, deployed: Deployed) -> None:
        found = verify(deployed.run, deployed.deployable, deployed.model)

        assert (found.status, found.rows, found.notes) == (PASSED_TRIALS, 48, ())
        assert found.trials > 1000

    def test_a_server_that_answers_differently_is_found(self, deployed: Deployed) -> None:
        def run(tensors: list[Tensor]) -> list[Tensor]:
            return [Tensor.from_array((tensor.array() + 1) % 3) for tensor in deployed.run(tensors)]

        with pytest.raises(VerificationFailed, match="48 of 48 labels differ"):
            verify(run, deployed.deployable, deployed.model)

    def test_without_trial_rows_it_is_not_said_to_be_verified(self, deployed: Deployed) -> None:
        found = verify(deployed.run, replace(deployed.deployable, sample=None), deployed.model)

        assert (found.status, found.rows, found.reference, found.notes) == (NO_EXAMPLE, 0, None, (NO_EXAMPLE,))


class TestReference:
    """The deployable decides whose answers are the reference."""

    def test_another_reference_is_named_where_the_answer_differs(self, regression: Path) -> None:
        deployed = deploy(regression)
        other = Reference("the estimator before it was trained", lambda rows: np.zeros(len(rows)))

        with pytest.raises(
            VerificationFailed, match="failed verification against the estimator before it was trained with the model's"
        ):
            verify(deployed.run, replace(deployed.deployable, reference=other), deployed.model)

    def test_without_a_reference_the_example_is_run_and_nothing_is_said_to_be_verified(self, regression: Path) -> None:
        deployed = deploy(regression)
        asked: list[tuple[int, ...]] = []

        def run(tensors: list[Tensor]) -> list[Tensor]:
            asked.extend(tensor.shape for tensor in tensors)
            return deployed.run(tensors)

        found = verify(run, replace(deployed.deployable, reference=NoReference("nobody knows")), deployed.model)

        assert (found.status, found.rows, found.difference, found.reference) == (
            "not verified: nobody knows",
            5,
            None,
            None,
        )
        assert asked == [(5, 10)]
        assert found.notes == (found.status,)

    def test_an_example_of_the_models_own_file_is_taken_where_mlflow_keeps_none(self, tmp_path: Path) -> None:
        data = load_iris(as_frame=True)
        path = save_sklearn(tmp_path / "m", GaussianNB().fit(data.data, data.target), data.data, example_rows=0)
        deployed = deploy(path)

        found = verify(deployed.run, replace(deployed.deployable, example=data.data[:7]), deployed.model)

        assert (found.status, found.rows) == (PASSED, 7)


def test_an_example_that_the_model_itself_refuses_is_told(tmp_path: Path) -> None:
    """The signature was made of a list of text. MLflow then passes a frame, and the name of its column isn't text."""
    text = ["good wine", "bad wine", "odd thing"] * 20
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(text, [line[0] for line in text])

    with pytest.raises(NotConvertible, match="Pipeline refuses its own input example and every row made up around it"):
        deploy(save_sklearn(tmp_path / "m", estimator, text))


def test_an_example_that_the_model_answered_no_more_is_told(tmp_path: Path) -> None:
    data = load_iris(as_frame=True)
    deployed = deploy(save_sklearn(tmp_path / "m", GaussianNB().fit(data.data, data.target), data.data))

    def refuse(_: Any) -> Any:
        raise ValueError("no more of that. Go away.")

    with pytest.raises(VerificationFailed) as caught:
        verify(deployed.run, replace(deployed.deployable, reference=Reference("mlflow.pyfunc", refuse)), deployed.model)

    assert caught.value.message == (
        "the stored model failed verification against mlflow.pyfunc with the model's input example: mlflow.pyfunc "
        "fails on it (no more of that. Go away); log the model with an example that it can answer, or deploy it "
        "with -C verify=off; nothing was deployed"
    )
