"""Sparse rows before boosted models: XGBoost alone reads the zeros that they don't store as gaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.sparse_rows import gives_sparse, rows_of_steps
from support.local_runs import deploy, save_sklearn

LIBRARIES: dict[str, tuple[str, dict[str, Any]]] = {
    "xgboost": ("XGBClassifier", {"n_estimators": 5}),
    "lightgbm": ("LGBMClassifier", {"n_estimators": 5, "min_child_samples": 3, "verbose": -1}),
    "catboost": ("CatBoostClassifier", {"iterations": 5, "verbose": 0, "allow_writing_files": False}),
}

TEXT, NUMBERS = ["colour", "size"], ["length", "count"]


def shop() -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows of two columns of text and two of numbers, one of them with many zeros, and whether each is sold."""
    random = np.random.default_rng(6)
    rows = pd.DataFrame({name: random.choice(list("abcdefgh"), 300).astype(object) for name in TEXT})
    rows["length"] = np.round(random.normal(size=300), 1)
    rows["count"] = random.integers(0, 3, 300) * 1.0
    return rows, ((rows.colour == "a") | (rows["size"] == "b") | (rows["count"] > 1)).to_numpy().astype(int)


def encoder(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", **options)


def columns(**options: Any) -> ColumnTransformer:
    return ColumnTransformer([("text", encoder(), TEXT), ("numbers", "passthrough", NUMBERS)], **options)


def boosted(library: str) -> Any:
    module = pytest.importorskip(library, reason=f'not installed: pip install "mlflow-redisai[{library}]"')
    name, options = LIBRARIES[library]
    return getattr(module, name)(**options)


Made = Callable[[Any], Any]

# What stands before the boosted model, and around it.
PIPELINES: dict[str, Made] = {
    "one hot": lambda model: make_pipeline(columns(sparse_threshold=1.0), model),
    "dense one hot": lambda model: make_pipeline(columns(sparse_threshold=0), model),
    "below the threshold": lambda model: make_pipeline(columns(sparse_threshold=0.1), model),
    "scaled": lambda model: make_pipeline(columns(sparse_threshold=1.0), MaxAbsScaler(), model),
    "selected": lambda model: make_pipeline(columns(sparse_threshold=1.0), SelectKBest(k=6), model),
    "voting": lambda model: make_pipeline(
        ColumnTransformer([("text", encoder(), TEXT)]),
        VotingClassifier([("a", model), ("b", LogisticRegression())], voting="soft"),
    ),
    "stacked": lambda model: make_pipeline(
        columns(sparse_threshold=1.0), StackingClassifier([("a", model), ("b", LogisticRegression())], cv=2)
    ),
    "calibrated": lambda model: make_pipeline(columns(sparse_threshold=1.0), CalibratedClassifierCV(model, cv=2)),
    "bagged": lambda model: make_pipeline(columns(sparse_threshold=1.0), BaggingClassifier(model, n_estimators=2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_boosted_model_behind_sparse_rows(library: str, pipeline: str, tmp_path: Path) -> None:
    rows, sold = shop()
    model = PIPELINES[pipeline](boosted(library)).fit(rows[:200], sold[:200])

    deployed = deploy(save_sklearn(tmp_path / "m", model, rows, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(rows)


@pytest.mark.parametrize("dense", [False, True])
def test_zeros_are_gaps_to_xgboost_only_in_sparse_rows(dense: bool, tmp_path: Path) -> None:  # noqa: FBT001
    rows, sold = shop()
    encoded = make_pipeline(columns(sparse_threshold=0 if dense else 1.0), boosted("xgboost")).fit(rows, sold)

    deployed = deploy(save_sklearn(tmp_path / "m", encoded, rows, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(rows)
    deployed.assert_equals_pyfunc(rows.assign(count=-0.0, length=np.nan))


def test_what_may_store_zeros_is_refused_before_xgboost(tmp_path: Path) -> None:
    """A function may store zeros of its own among those that sparse rows don't store."""
    rows, sold = shop()
    root = FunctionTransformer(np.sqrt, accept_sparse=True)
    model = make_pipeline(encoder(), root, boosted("xgboost")).fit(rows[TEXT], sold)

    with pytest.raises(NotConvertible, match="reads the zeros that sparse rows don't store as gaps, and which zeros"):
        deploy(save_sklearn(tmp_path / "m", model, rows[TEXT]))


TRANSFORMERS = {
    "one hot": encoder(),
    "dense one hot": encoder(sparse_output=False),
    "columns": columns(),
    "sparse columns": columns(sparse_threshold=1.0),
    "dense columns": columns(sparse_threshold=0),
    "scaled": make_pipeline(encoder(), MaxAbsScaler(), StandardScaler(with_mean=False), Normalizer()),
    "selected": make_pipeline(encoder(), SelectKBest(k=3)),
    "products": make_pipeline(encoder(), PolynomialFeatures(2)),
    "factors": make_pipeline(encoder(), TruncatedSVD(2)),
    "untouched": make_pipeline(encoder(), "passthrough", FunctionTransformer()),
    "bins": ColumnTransformer([("bins", KBinsDiscretizer(4, strategy="uniform"), NUMBERS)]),
    "ordinal bins": ColumnTransformer([("bins", KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), NUMBERS)]),
    "union": FeatureUnion([("one", encoder()), ("other", make_pipeline(encoder(), TruncatedSVD(2)))]),
    "words": ColumnTransformer([("words", TfidfVectorizer(token_pattern="[a-z]"), "colour")], sparse_threshold=1.0),
    "numbers": ColumnTransformer([("numbers", StandardScaler(), NUMBERS)]),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_rows_of_a_transformer_are_known(name: str) -> None:
    """They are sparse if scikit-learn's are, and the zeros that a graph turns into gaps aren't stored."""
    rows, sold = shop()
    given = (
        rows[TEXT]
        if name in {"one hot", "dense one hot", "union"} or isinstance(TRANSFORMERS[name], Pipeline)
        else rows
    )
    fitted = TRANSFORMERS[name].fit(given, sold)

    found = fitted.transform(given)

    assert gives_sparse(fitted, sparse=False) == sparse.issparse(found)
    if sparse.issparse(found):
        assert found.nnz == np.count_nonzero(found.toarray())


@pytest.mark.parametrize(
    "step",
    [SimpleImputer(), QuantileTransformer(n_quantiles=5), FunctionTransformer(np.sqrt, accept_sparse=True)],
    ids=str,
)
def test_the_rows_of_other_transformers_are_unknown_if_theirs_are_sparse(step: Any) -> None:
    assert gives_sparse(step, sparse=False) is False
    assert gives_sparse(step, sparse=True) is None
    assert gives_sparse(FeatureUnion([("one", step), ("two", encoder())]), sparse=True) is None


def test_splines_may_store_zeros() -> None:
    assert gives_sparse(SplineTransformer(sparse_output=True), sparse=False) is None


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_stacks_last_estimator_gets_sparse_rows_only_if_they_pass_through(passthrough: bool) -> None:  # noqa: FBT001
    rows, sold = shop()
    stack = StackingClassifier([("a", LogisticRegression())], LogisticRegression(C=2), cv=2, passthrough=passthrough)
    fitted = make_pipeline(encoder(), stack).fit(rows[TEXT], sold)

    found = [(each.C, rows) for each, rows in rows_of_steps(fitted) if isinstance(each, LogisticRegression)]

    assert (1.0, True) in found
    assert (2, passthrough) in found


def test_calibration_hands_its_rows_on() -> None:
    rows, sold = shop()
    fitted = make_pipeline(encoder(), CalibratedClassifierCV(LogisticRegression(), cv=2)).fit(rows[TEXT], sold)

    assert [found for each, found in rows_of_steps(fitted) if hasattr(each, "coef_")] == [True, True]
