"""
Facts about scikit-learn's estimators: how they read numbers, and what they consist of.

Nothing here builds ONNX graphs.

Invariant: a fitted estimator is never changed. An estimator that must differ for the conversion is a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlflow_redisai.models.sklearn.converters.transforms import transforming
from redisai_engine.codec.mapping import Schema


def parts(estimator: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the estimators inside pipelines, column transformers and unions, each with its path of step names."""
    steps = _steps(estimator)
    if steps is None:
        yield path, estimator
        return
    for name, step in steps:
        if hasattr(step, "get_params"):
            yield from parts(step, f"{path}.{name}" if path else name)


def _steps(estimator: Any) -> list[tuple[str, Any]] | None:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, Pipeline):
        return list(estimator.steps)
    if isinstance(estimator, FeatureUnion):
        return list(estimator.transformer_list)
    if isinstance(estimator, ColumnTransformer):
        return [(name, step) for name, step, _ in estimator.transformers_]
    return None


def last_of(estimator: Any) -> Any:
    """Return the estimator that gives the answer: a pipeline's last, or the estimator itself."""
    from sklearn.pipeline import Pipeline

    return last_of(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def every_estimator(estimator: Any) -> Iterator[Any]:
    """Yield every fitted estimator, including those inside pipelines and ensembles."""
    for _, inner in walk(estimator):
        yield inner


def walk(estimator: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the estimator and all fitted ones that it delegates to, each with its path of names."""
    yield path, estimator
    for name, inner in _delegates(estimator):
        yield from walk(inner, f"{path}.{name}" if path else name)


def trained_names(estimator: Any) -> tuple[str, ...]:
    """
    Return the names of the columns that an estimator was trained on, () if it takes columns by their positions.

    LightGBM's do, although they remember names.
    """
    while (inner := _first_to_read(estimator)) is not None:
        estimator = inner
    if type(estimator).__module__.startswith("lightgbm."):
        return ()
    return tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))


def _first_to_read(estimator: Any) -> Any:
    """Return the estimator inside a search or a pipeline that gets its input unchanged; None if it is none of these."""
    if hasattr(estimator, "best_estimator_"):
        return estimator.best_estimator_
    steps = getattr(estimator, "steps", ())
    return next((step for _, step in steps if step not in (None, "passthrough")), None)


# Attributes with the fitted estimators that an estimator asks for its answers.
_DELEGATES = (
    "estimator_",
    "best_estimator_",
    "final_estimator_",
    "estimators_",
    "calibrated_classifiers_",
    "regressor_",
    "transformer_",
    "init_",
)


def _delegates(estimator: Any) -> Iterator[tuple[str, Any]]:
    for name, step in _steps(estimator) or ():
        if hasattr(step, "get_params"):
            yield name, step
    # A selection of columns asks its estimator only while it is fitted.
    if hasattr(estimator, "get_support"):
        return
    # What is inside a calibrated or frozen estimator is fitted, but not named as if it were.
    wrapped = ("estimator",) if type(estimator).__name__ in ("_CalibratedClassifier", "FrozenEstimator") else ()
    # An ensemble's `estimator_` is only the pattern for its `estimators_`.
    names = [name for name in _DELEGATES if name != "estimator_" or not hasattr(estimator, "estimators_")]
    for name in (*names, *wrapped):
        for one in flat(getattr(estimator, name, None)):
            if hasattr(one, "get_params") or hasattr(one, "estimator"):
                yield name, one


def flat(inner: Any) -> Iterator[Any]:
    """Yield what lists and arrays hold. Numpy would take a pipeline, which has a length, for a list of its steps."""
    if isinstance(inner, (list, tuple, np.ndarray)):
        for one in inner:
            yield from flat(one)
    else:
        yield inner


def reads_float32(estimator: Any) -> bool:
    """Return whether the last estimator rounds its input to float32, as trees and ensembles of trees do."""
    from sklearn.tree import BaseDecisionTree

    return any(isinstance(inner, BaseDecisionTree) for inner in every_estimator(last_of(estimator)))


def counts_neighbours(estimator: Any) -> bool:
    """Return whether distances decide which training rows count. Rounded to float32, many of them would be equal."""
    return any(hasattr(inner, "_fit_method") for inner in every_estimator(estimator))


def is_boosted(estimator: Any) -> bool:
    """Return whether an estimator comes from one of the boosting libraries."""
    return type(estimator).__module__.partition(".")[0] in {"xgboost", "lightgbm", "catboost"}


def takes_columns(estimator: Any, schema: Schema) -> bool:
    """Return whether each column needs its own tensor: the model picks columns by name, or mixes text and numbers."""
    if schema.kind != "columns":
        return False
    if not all(item.used for item in schema.fields):
        return True
    text = [item.dtype.is_string for item in schema.fields]
    return _picks_by_name(estimator) or (any(text) and not all(text))


def _picks_by_name(estimator: Any) -> bool:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, ColumnTransformer):
        return any(_names(columns) for _, _, columns in estimator.transformers_)
    if isinstance(estimator, (Pipeline, FeatureUnion)):
        return any(_picks_by_name(step) for _, step in _steps(estimator) or ())
    inner = getattr(estimator, "regressor_", None) or getattr(estimator, "best_estimator_", None)
    return inner is not None and _picks_by_name(inner)


def unread_columns(estimator: Any, columns: Any) -> set[int]:
    """Return the positions, in MLflow's schema, of columns that the model's first step leaves out."""
    if columns is None or columns.is_tensor_spec():
        return set()
    names = [spec.name for spec in columns.inputs]
    read = _read_columns(estimator, names)
    # A graph needs an input: without one, it would not know how many rows there are.
    return set(range(len(names))) - read if read else set()


def _read_columns(estimator: Any, names: list[Any]) -> set[int]:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, ColumnTransformer):
        return _chosen(estimator, names)
    if isinstance(estimator, Pipeline):
        return _read_columns(estimator.steps[0][1], names)
    if isinstance(estimator, FeatureUnion):
        kept = [step for _, step in _steps(estimator) or () if step != "drop"]
        return set().union(*(_read_columns(step, names) for step in kept))
    return set(range(len(names)))


def _chosen(transformer: Any, names: list[Any]) -> set[int]:
    """Return the positions of the columns that some part of a column transformer takes."""
    kept = [name for name, step, _ in transformer.transformers_ if not isinstance(step, str) or step != "drop"]
    places = {int(place) for name in kept for place in transformer._transformer_to_input_indices[name]}
    trained = getattr(transformer, "feature_names_in_", None)
    if trained is None or not set(trained[sorted(places)]) <= set(names):
        return {place for place in places if place < len(names)}
    return {names.index(trained[place]) for place in places}


def _names(columns: Any) -> bool:
    chosen = [columns] if isinstance(columns, str) else list(columns) if np.ndim(columns) == 1 else []
    return any(isinstance(column, str) for column in chosen)


# -- copies that convert --------------------------------------------------------------------------


def cast_before_last(estimator: Any) -> Any:
    """Return a pipeline that rounds to float32 before the last estimator."""
    from skl2onnx.sklapi import CastTransformer
    from sklearn.pipeline import Pipeline

    cast = CastTransformer(dtype=np.float32)
    # It learns nothing, but scikit-learn requires every step to be fitted.
    cast.fit(np.zeros((1, 1)))
    if isinstance(estimator, Pipeline):
        return Pipeline([*estimator.steps[:-1], ("cast_to_float32", cast), estimator.steps[-1]])
    return Pipeline([("cast_to_float32", cast), ("last", estimator)])


def unfolded(estimator: Any, function: str) -> Any:
    """
    Return the estimator with each RFE as what it does: a choice of columns, and if it gives the answer, its estimator.
    A search is the best estimator that it found, and what only transforms has a stand-in if it could also predict.

    skl2onnx converts only its transform, and takes an RFE that chooses for a classifier as one that classifies.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_selection import RFE
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, ColumnTransformer):
        return _with_parts(estimator, "transformers_")
    if isinstance(estimator, FeatureUnion):
        return _with_parts(estimator, "transformer_list")
    if isinstance(estimator, Pipeline):
        *first, (name, last) = estimator.steps
        steps = [*((each, unfolded(step, "transform")) for each, step in first), (name, unfolded(last, function))]
        same = all(step is old for (_, step), (_, old) in zip(steps, estimator.steps, strict=True))
        return estimator if same else Pipeline(steps)
    if hasattr(estimator, "best_estimator_"):
        return unfolded(estimator.best_estimator_, function)
    if not isinstance(estimator, RFE):
        return transforming(estimator) if function == "transform" else estimator
    choice = _choice_of_columns(estimator)
    return choice if function == "transform" else Pipeline([("columns", choice), ("estimator", estimator.estimator_)])


def _with_parts(estimator: Any, attribute: str) -> Any:
    """Return a union or column transformer with each of its parts unfolded, the same one if that changes none."""
    old = getattr(estimator, attribute)
    # A part may be the text "passthrough" or "drop".
    new = [
        (name, unfolded(part, "transform") if hasattr(part, "get_params") else part, *columns)
        for name, part, *columns in old
    ]
    if all(part[1] is before[1] for part, before in zip(new, old, strict=True)):
        return estimator
    copied = copy.copy(estimator)
    setattr(copied, attribute, new)
    return copied


def _choice_of_columns(selector: Any) -> Any:
    from sklearn.feature_selection import VarianceThreshold

    twin = VarianceThreshold()
    twin.variances_ = selector.support_.astype(np.float64)
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(selector, name):
            setattr(twin, name, getattr(selector, name))
    return twin


def convertible(estimator: Any, function: str) -> Any:
    """Return an estimator with the same answers that skl2onnx converts correctly: the same one where possible."""
    from sklearn.ensemble import VotingClassifier
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        *first, (name, last) = estimator.steps
        return Pipeline([*first, (name, convertible(last, function))])
    if function == "predict" and _is_linear(estimator):
        return _as_logistic_regression(estimator)
    if function == "predict" and isinstance(estimator, (OneVsRestClassifier, MultiOutputClassifier)):
        copied = copy.copy(estimator)
        copied.estimators_ = [convertible(inner, function) for inner in estimator.estimators_]
        return copied
    if isinstance(estimator, VotingClassifier):
        copied = copy.copy(estimator)
        # It affects only transform(), which no graph is made for.
        copied.flatten_transform = False
        return copied
    return estimator


def _is_linear(estimator: Any) -> bool:
    """Return whether a linear classifier's label is that of its largest score, which skl2onnx doesn't always honour."""
    from sklearn.linear_model import (
        PassiveAggressiveClassifier,
        Perceptron,
        RidgeClassifier,
        RidgeClassifierCV,
        SGDClassifier,
    )
    from sklearn.svm import LinearSVC

    kinds = (LinearSVC, PassiveAggressiveClassifier, Perceptron, RidgeClassifier, RidgeClassifierCV, SGDClassifier)
    classes = getattr(estimator, "classes_", None)
    if not isinstance(estimator, kinds) or not isinstance(classes, np.ndarray):
        return False
    scores = np.atleast_2d(estimator.coef_).shape[0]
    return bool(scores == (1 if len(classes) == 2 else len(classes)))


def _as_logistic_regression(estimator: Any) -> Any:
    """Return a logistic regression with the same scores, so the same labels. Its conversion stays in float64."""
    from sklearn.linear_model import LogisticRegression

    twin = LogisticRegression()
    twin.coef_ = np.atleast_2d(estimator.coef_)
    twin.intercept_ = np.broadcast_to(np.atleast_1d(estimator.intercept_), twin.coef_.shape[:1]).copy()
    twin.classes_ = estimator.classes_
    twin.n_features_in_ = twin.coef_.shape[1]
    return twin
