"""
scikit-learn: every estimator with every parameter, alone, and with its defaults inside other estimators.

Categories, documents and labels go to the estimators that take them; all others get numbers. A frame with gaps and text
is prepared for them by an imputer and an encoder, in one pipeline.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from census import data as sets
from census.data import Data
from census.estimators import arguments, takes, takes_gaps
from census.options import changes
from census.rows import CannotTrain, Family, Question, Row, Trained, shown

#: Methods that pyfunc calls, and those that a user can log but pyfunc can't call. For these, scikit-learn answers.
_PYFUNCS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
METHODS = (*_PYFUNCS, "decision_function", "transform")
DEFAULTS = "defaults"


@cache
def kinds() -> dict[str, type]:
    """Return scikit-learn's estimators by name."""
    from sklearn.utils import all_estimators

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(all_estimators())


def rows() -> Iterator[Row]:
    """Yield every row. Methods that a model turns out to lack are left out when it is trained."""
    for name, kind in kinds().items():
        for change in (DEFAULTS, *_changes(name)):
            for data in sets.NAMES:
                for method in _methods(kind):
                    yield Row("sklearn", name, change, "alone", data, method)
        for within, (suits, _) in WITHIN.items():
            for method in _methods(kind) if suits(kind) and takes(name) in ("numbers", "positive") else ():
                yield Row("sklearn", name, DEFAULTS, within, "real", method)


@cache
def _changes(name: str) -> dict[str, dict[str, Any]]:
    kind = kinds()[name]
    # What the census needs to build the class can be changed too, except for the estimators inside.
    fixed = {key: value for key, value in arguments(name, kind).items() if key in ("random_state", "estimator")}
    return {
        ",".join(f"{key}={shown(value)}" for key, value in change.items()): change for change in changes(kind, fixed)
    }


def _methods(kind: type) -> list[str]:
    found = [method for method in METHODS if hasattr(kind, method)]
    # No class without any is a model for MLflow. One row shows what is said about it.
    return found or ["predict"]


# -- inside other estimators ----------------------------------------------------------------------


def _is_classifier(kind: type) -> bool:
    from sklearn.base import ClassifierMixin

    return issubclass(kind, ClassifierMixin)


def _is_regressor(kind: type) -> bool:
    from sklearn.base import RegressorMixin

    return issubclass(kind, RegressorMixin)


def _predicts(kind: type) -> bool:
    return hasattr(kind, "predict") and hasattr(kind, "fit")


def _transforms(kind: type) -> bool:
    return hasattr(kind, "transform") and hasattr(kind, "fit")


def _scored(kind: type) -> bool:
    return _is_classifier(kind) and (hasattr(kind, "predict_proba") or hasattr(kind, "decision_function"))


def _pipeline(inner: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), inner)


def _followed(inner: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(inner, LogisticRegression())


def _columns(inner: Any) -> Any:
    from sklearn.compose import ColumnTransformer

    return ColumnTransformer([("inner", inner, ["a", "c", "d"])], remainder="passthrough")


def _made(module: str, name: str, **options: Any) -> Callable[[Any], Any]:
    """Return a function that puts an estimator into one of scikit-learn's, under the name that its argument has."""

    def make(inner: Any) -> Any:
        import importlib

        return getattr(importlib.import_module(f"sklearn.{module}"), name)(inner, **options)

    return make


def _listed(module: str, name: str, **options: Any) -> Callable[[Any], Any]:
    from sklearn.linear_model import LogisticRegression, Ridge

    other = LogisticRegression() if name.endswith("Classifier") else Ridge()
    return lambda inner: _made(module, name, **options)([("inner", inner), ("other", other)])


#: For each estimator around another one: which classes it takes, and how it is built.
WITHIN: dict[str, tuple[Callable[[type], bool], Callable[[Any], Any]]] = {
    "Pipeline": (lambda kind: _predicts(kind) or _transforms(kind), _pipeline),
    "Pipeline before LogisticRegression": (_transforms, _followed),
    "ColumnTransformer": (_transforms, _columns),
    "CalibratedClassifierCV": (_scored, _made("calibration", "CalibratedClassifierCV", cv=2)),
    "VotingClassifier": (_is_classifier, _listed("ensemble", "VotingClassifier")),
    "VotingClassifier soft": (_scored, _listed("ensemble", "VotingClassifier", voting="soft")),
    "VotingRegressor": (_is_regressor, _listed("ensemble", "VotingRegressor")),
    "StackingClassifier": (_is_classifier, _listed("ensemble", "StackingClassifier", cv=2)),
    "StackingRegressor": (_is_regressor, _listed("ensemble", "StackingRegressor", cv=2)),
    "BaggingClassifier": (
        _is_classifier,
        _made("ensemble", "BaggingClassifier", n_estimators=3, max_features=0.8, random_state=0),
    ),
    "BaggingRegressor": (
        _is_regressor,
        _made("ensemble", "BaggingRegressor", n_estimators=3, max_features=0.8, random_state=0),
    ),
    "OneVsRestClassifier": (_scored, _made("multiclass", "OneVsRestClassifier")),
    "OneVsOneClassifier": (_scored, _made("multiclass", "OneVsOneClassifier")),
    "MultiOutputClassifier": (_is_classifier, _made("multioutput", "MultiOutputClassifier")),
    "MultiOutputRegressor": (_is_regressor, _made("multioutput", "MultiOutputRegressor")),
    "TransformedTargetRegressor": (
        _is_regressor,
        _made("compose", "TransformedTargetRegressor", func=np.log1p, inverse_func=np.expm1),
    ),
}


# -- training -------------------------------------------------------------------------------------


def train(row: Row, seed: int) -> Trained:
    """Train a row's model. Raise CannotTrain."""
    estimator, frame, questions = _fitted(row.subject, row.change, row.within, row.data, seed)
    if not hasattr(estimator, row.method):
        raise CannotTrain(f"{type(estimator).__name__} has no {row.method}")

    def save(path: Path, method: str) -> None:
        save_sklearn(path, estimator, frame, method)

    return Trained("sklearn", save, questions, None if row.method in _PYFUNCS else _own(estimator, frame, row.method))


def _own(estimator: Any, frame: Any, method: str) -> Callable[[Any], Any]:
    """Return a function that asks scikit-learn itself, with what the signature makes of the input."""
    from mlflow.models import infer_signature
    from mlflow.models.utils import _enforce_schema

    schema = infer_signature(frame).inputs
    return lambda rows: getattr(estimator, method)(_enforce_schema(rows, schema))


def save_sklearn(path: Path, estimator: Any, frame: Any, method: str) -> None:
    """Save an estimator with a signature and three rows as its example."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        estimator,
        str(path),
        signature=infer_signature(frame),
        input_example=frame[:3],
        serialization_format="cloudpickle",
        pyfunc_predict_fn=method,
        pip_requirements=[],
    )


@lru_cache(maxsize=1)
def _fitted(subject: str, change: str, within: str, data: str, seed: int) -> tuple[Any, Any, tuple[Question, ...]]:
    kind = kinds()[subject]
    made = sets.made(data, seed)
    try:
        estimator = kind(**{**arguments(subject, kind), **({} if change == DEFAULTS else _changes(subject)[change])})
        built = estimator if within == "alone" else WITHIN[within][1](estimator)
        built, frame, target = _arranged(built, takes(subject), within, made)
        built.fit(frame) if target is None else built.fit(frame, target)
    # Any combination that scikit-learn refuses is none that a user could have logged.
    except Exception as error:
        raise CannotTrain(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return built, frame, _questions(frame, made)


def _questions(frame: Any, made: Data) -> tuple[Question, ...]:
    if isinstance(frame, pd.DataFrame):
        return sets.questions(frame, made.random)
    return (Question("training rows", frame), Question("rows in another order", frame[::-1]))


def _arranged(estimator: Any, wants: str, within: str, made: Data) -> tuple[Any, Any, Any]:
    """Return the model, the rows to train on and the target, arranged for what the estimator wants."""
    if wants in _SPECIAL:
        return estimator, *_SPECIAL[wants](made)
    frame = made.frame.abs() if wants == "positive" and made.name == "real" else made.frame
    target = _target(estimator, wants, within, made)
    if made.name != "mixed":
        return estimator, frame, target
    numbers = frame.drop(columns=list(sets.TEXTS))
    return (estimator, numbers, target) if takes_gaps(estimator) else (_prepared(estimator), frame, target)


def _target(estimator: Any, wants: str, within: str, made: Data) -> Any:
    from sklearn.base import is_regressor

    several = wants == "several" or within.startswith("MultiOutput")
    if is_regressor(estimator) or type(estimator).__name__ in ("PLSSVD", "PLSCanonical", "CCA", "PLSRegression"):
        numbers = np.abs(made.numbers) + 0.5 if _needs_positive_target(estimator) else made.numbers
        return np.column_stack([numbers, numbers[::-1]]) if several else numbers
    return np.column_stack([made.labels, made.labels[::-1]]) if several else made.labels


def _needs_positive_target(estimator: Any) -> bool:
    text = repr(estimator)
    return any(word in text for word in ("Poisson", "Gamma", "Tweedie", "poisson", "gamma", "log", "TransformedTarget"))


def _prepared(estimator: Any) -> Any:
    """Return a pipeline that fills gaps and encodes text before the estimator."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

    numbers = Pipeline([("filled", SimpleImputer()), ("scaled", MinMaxScaler())])
    prepare = ColumnTransformer(
        [
            ("numbers", numbers, ["a", "b", "n"]),
            ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(sets.TEXTS)),
            ("flags", "passthrough", ["flag"]),
        ]
    )
    return Pipeline([("prepare", prepare), ("last", estimator)])


# -- estimators that take no table of numbers -----------------------------------------------------


def _categories(made: Data) -> tuple[Any, Any]:
    """Return columns of categories: text with gaps in one column, or small integers."""
    if made.name != "mixed":
        return made.frame.round(-4).astype(int) if made.name == "real" else made.frame, made.labels
    frame = made.frame[list(sets.TEXTS)].copy()
    frame["size"] = frame["size"].where(made.random.random(len(frame)) > 0.1)
    return frame, made.labels


_WORDS = ("red", "Blue", "gold", "the", "a", "It's", "stone-wall", "Ärger", "x1", "running", "run", "2026")


def _documents(made: Data) -> tuple[Any, Any]:
    texts = [" ".join(made.random.choice(_WORDS, made.random.integers(0, 7))) for _ in range(len(made.frame))]
    return np.array(texts, object), None


def _labels(made: Data) -> tuple[Any, Any]:
    return made.labels, None


def _column(made: Data) -> tuple[Any, Any]:
    return made.frame[[made.frame.columns[0]]].fillna(0), made.numbers


_SPECIAL: dict[str, Callable[[Data], tuple[Any, Any]]] = {
    "categories": _categories,
    "documents": _documents,
    "labels": _labels,
    "column": _column,
}

FAMILY = Family("sklearn", rows, train)
