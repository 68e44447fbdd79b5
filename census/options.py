"""
The documented values of a scikit-learn parameter, read from the constraints that scikit-learn itself checks.

Words, booleans, None and the ends of intervals come from there. `VALUES` adds those of parameters that take a list, a
function, a type or an estimator.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np

# They change how a model is trained or what it prints, never what kind of model comes out.
IRRELEVANT = frozenset(
    (
        *("verbose", "n_jobs", "copy", "copy_X", "copy_x", "copy_X_train", "random_state", "memory", "cache_size"),
        *("pre_dispatch", "error_score", "warm_start", "return_train_score", "store_cv_results", "oob_score", "refit"),
        *("leaf_size", "compute_score", "store_covariance", "store_precision", "compute_inverse_components", "scoring"),
    )
)

#: Values of parameters by name, or by estimator and name, which goes first.
VALUES: dict[str, tuple[Any, ...]] = {
    "alphas": ((0.1, 1.0), 3),
    "binarize": (None, 0.5),
    "categories": (),
    "class_prior": (),
    "class_weight": ("balanced",),
    "cv": (2, 3),
    "dtype": (np.float32, np.float64, np.int64),
    "estimator": (),
    "feature_range": ((-1, 1), (0, 10)),
    "fill_value": (-1, 0),
    "hidden_layer_sizes": ((5,), (4, 3)),
    "max_categories": (2, 3),
    "min_frequency": (5, 0.2),
    "missing_values": (0, -1),
    "n_bins": (2, 3, 7),
    "ngram_range": ((1, 2), (2, 2)),
    "priors": (),
    "quantile_range": ((10.0, 90.0),),
    "stop_words": ("english", ("red", "the")),
    "token_pattern": (r"(?u)\b\w+\b", r"[a-z]+"),
    "threshold": (0.5, 1.0, 0.0),
    "vocabulary": (),
    "CountVectorizer.input": (),
    "FunctionTransformer.func": (np.log1p, np.exp, np.sqrt),
    "HashingVectorizer.input": (),
    "KNNImputer.missing_values": (-1,),
    "LabelBinarizer.neg_label": (-1,),
    "LabelBinarizer.pos_label": (2,),
    "OneHotEncoder.drop": ("first", "if_binary"),
    "OrdinalEncoder.encoded_missing_value": (-2,),
    "OrdinalEncoder.handle_unknown": (),
    "OrdinalEncoder.unknown_value": (),
    "SimpleImputer.fill_value": (),
    "TfidfVectorizer.input": (),
    "TransformedTargetRegressor.func": (),
    "TransformedTargetRegressor.inverse_func": (),
}

#: Changes of several parameters that only make sense together.
TOGETHER: dict[str, tuple[dict[str, Any], ...]] = {
    "ElasticNet": ({"l1_ratio": 0.0, "alpha": 0.1},),
    "KNeighborsClassifier": ({"weights": "distance", "metric": "manhattan"}, {"n_neighbors": 1, "weights": "distance"}),
    "KNeighborsRegressor": ({"weights": "distance", "metric": "manhattan"}, {"n_neighbors": 1, "weights": "distance"}),
    "LogisticRegression": ({"penalty": "l1", "solver": "liblinear"}, {"penalty": "l1", "solver": "saga"}),
    "OneHotEncoder": (
        {"handle_unknown": "ignore", "drop": "first"},
        {"handle_unknown": "infrequent_if_exist", "min_frequency": 40},
        {"handle_unknown": "ignore", "sparse_output": False},
    ),
    "OrdinalEncoder": (
        {"handle_unknown": "use_encoded_value", "unknown_value": -1},
        {"handle_unknown": "use_encoded_value", "unknown_value": np.nan},
        {"handle_unknown": "use_encoded_value", "unknown_value": -1, "min_frequency": 40},
        {"handle_unknown": "use_encoded_value", "unknown_value": -1, "encoded_missing_value": -2},
    ),
    "SVC": (
        {"break_ties": True, "decision_function_shape": "ovr"},
        {"probability": True, "kernel": "linear"},
        {"decision_function_shape": "ovo", "break_ties": False},
    ),
    "SimpleImputer": (
        {"strategy": "constant", "fill_value": 7},
        {"strategy": "most_frequent", "add_indicator": True},
    ),
    "TransformedTargetRegressor": (
        {"func": np.log1p, "inverse_func": np.expm1},
        {"func": np.log, "inverse_func": np.exp},
        {"func": np.sqrt, "inverse_func": np.square},
    ),
}


def changes(kind: type, defaults: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the changes to try on a class: one parameter each, then those that only make sense together."""
    constraints = getattr(kind, "_parameter_constraints", None) or {}
    for name, default in _parameters(kind):
        if name in IRRELEVANT or name in defaults:
            continue
        tried: list[str] = [repr(default)]
        for value in _values(kind.__name__, name, constraints.get(name, []), default):
            if repr(value) not in tried:
                tried.append(repr(value))
                yield {name: value}
    yield from TOGETHER.get(kind.__name__, ())


def _parameters(kind: type) -> Iterator[tuple[str, Any]]:
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            yield name, parameter.default


def _values(kind: str, name: str, constraints: Any, default: Any) -> Iterator[Any]:
    for key in (f"{kind}.{name}", name):
        if key in VALUES:
            yield from VALUES[key]
            return
    for constraint in constraints if isinstance(constraints, list) else []:
        yield from _allowed(constraint, default)


def _allowed(constraint: Any, default: Any) -> Iterator[Any]:
    from sklearn.utils._param_validation import Interval, Options

    if constraint is None:
        yield None
    elif constraint == "boolean":
        yield from (False, True)
    elif isinstance(constraint, Interval):
        yield from _ends(constraint, default)
    elif isinstance(constraint, Options):
        deprecated = getattr(constraint, "deprecated", None) or set()
        yield from sorted(set(constraint.options) - set(deprecated) - {"precomputed"}, key=repr)


def _ends(interval: Any, default: Any) -> Iterator[Any]:
    """Yield an interval's finite ends, and a number inside it that is not the default."""
    whole = interval.type is Integral
    for end, allowed in ((interval.left, {"left", "both"}), (interval.right, {"right", "both"})):
        if end is not None and math.isfinite(end) and abs(end) < 1e6 and interval.closed in allowed:
            yield int(end) if whole else float(end)
    number = isinstance(default, (int, float)) and not isinstance(default, bool) and math.isfinite(default)
    usual = default if number and default else 1
    for inside in (int(usual) + 1, int(usual) // 2) if whole else (usual * 2.0, usual / 2.0):
        if inside in interval:
            yield inside
            return
