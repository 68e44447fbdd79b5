"""Bins, thresholds, norms and categories sort float64 as scikit-learn does, beside every edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MaxAbsScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)

from mlflow_redisai.errors import NotConvertible
from support.local_runs import deploy, save_sklearn

WHOLE = pd.DataFrame({"rooms": np.tile([0.0, 1.0, 2.0, 3.0], 30), "halves": np.tile([0.5, 1.0, 1.5], 40)})
# Of the same size as categories, but none of them.
BESIDE = pd.DataFrame({"rooms": [1.5, -0.2, 2.0000001, 3.0, 1e300], "halves": [0.5, 0.49999999, 0.0, 1.25, 1.0]})

ENCODERS: dict[str, Any] = {
    "ignored": OneHotEncoder(handle_unknown="ignore"),
    "without the first": OneHotEncoder(handle_unknown="ignore", drop="first"),
    "rare ones together": OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3),
    "rare ones by number": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=35, sparse_output=False),
    "a number for unknown ones": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "a number for rare ones": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=3),
    "the mean of the target": TargetEncoder(target_type="continuous"),
}


def target(frame: pd.DataFrame) -> Any:
    return frame.iloc[:, 0].rank().to_numpy()


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_fraction_is_no_whole_category(kind: str, tmp_path: Path) -> None:
    estimator = make_pipeline(ENCODERS[kind], Ridge()).fit(WHOLE, target(WHOLE))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, WHOLE))

    deployed.assert_equals_pyfunc(WHOLE, within=1e-9)
    deployed.assert_equals_pyfunc(BESIDE, within=1e-9)


@pytest.mark.parametrize("kind", ENCODERS)
def test_text_and_numbers_in_one_encoder(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"colour": random.choice(["red", "grün", ""], 120), "size": random.integers(0, 4, 120)})
    unknown = frame.assign(colour=random.choice(["red", "blue"], 120), size=random.integers(0, 9, 120))
    encoded = ColumnTransformer([("both", ENCODERS[kind], ["colour", "size"])])
    estimator = make_pipeline(encoded, Ridge()).fit(frame, np.arange(120))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(frame, within=1e-9)
    deployed.assert_equals_pyfunc(unknown, within=1e-9)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=lambda one: type(one).__name__)
def test_a_category_that_is_an_error_is_never_answered(encoder: Any, tmp_path: Path) -> None:
    estimator = make_pipeline(encoder, Ridge()).fit(WHOLE, target(WHOLE))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, WHOLE))

    deployed.assert_equals_pyfunc(WHOLE, within=1e-9)
    with pytest.raises(Exception, match=r"."):
        deployed.predict(BESIDE)


@pytest.mark.parametrize("encode", ["ordinal", "onehot", "onehot-dense"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_large_numbers_fall_into_the_same_bins(strategy: Any, encode: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    frame = pd.DataFrame({"second": 1.7e9 + random.integers(0, 2000, 500), "share": random.random(500)})
    bins = KBinsDiscretizer(8, encode=encode, strategy=strategy)
    estimator = make_pipeline(bins, Ridge()).fit(frame, np.sin(frame.second / 300))
    edges = bins.bin_edges_
    rows = pd.DataFrame({name: np.resize(_beside(edges[index]), 60) for index, name in enumerate(frame)})

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(rows, within=1e-9)


def test_a_threshold_is_float64(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(90, 2)), columns=["a", "b"])
    estimator = make_pipeline(Binarizer(threshold=0.3), Ridge()).fit(frame, target(frame))
    rows = pd.DataFrame({name: np.resize(_beside(np.array([0.3])), 9) for name in frame})

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(rows, within=1e-9)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_rows_are_divided_by_their_norm(norm: Any, tmp_path: Path) -> None:
    """The largest number is so by its amount, and a norm that is almost zero isn't divided by."""
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(90, 3)), columns=["a", "b", "c"])
    estimator = make_pipeline(Normalizer(norm), Ridge()).fit(frame, target(frame))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    for rows in (frame, -frame.abs(), frame * 0, frame * 1e-15, frame * 1e-17):
        deployed.assert_equals_pyfunc(rows, within=1e-9)


def test_categories_that_float64_confuses_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": np.tile([2**53, 2**53 + 1], 20)})
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()).fit(frame, target(frame))

    with pytest.raises(NotConvertible, match=r"beyond 2\*\*53"):
        deploy(save_sklearn(tmp_path / "model", estimator, frame))


def _beside(edges: np.ndarray) -> np.ndarray:
    return np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])


@pytest.mark.parametrize("clip", [True, False])
def test_numbers_beyond_the_largest_are_cut(clip: Any, tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": [1.0, -4.0, np.nan, 2.0], "b": [3.0, 0.0, 1.0, np.nan]})
    estimator = MaxAbsScaler(clip=clip).fit(rows)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn="transform"))

    np.testing.assert_allclose(deployed.predict(rows * 2), estimator.transform(rows * 2), rtol=1e-12)
