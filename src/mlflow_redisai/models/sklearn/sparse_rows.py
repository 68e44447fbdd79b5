"""
Which steps of a scikit-learn model receive sparse rows. Nothing here builds ONNX graphs.

XGBoost reads the zeros that a sparse matrix doesn't store as gaps. ONNX's tensors are dense, so a graph must turn these
zeros into gaps, and only where the original hands over sparse rows.

Invariant: a step is never assumed to give sparse or dense rows. A transformer of sparse rows that isn't in the tables
below leaves the answer open (None).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Of transformers with such a parameter, the value that makes the output sparse, whatever the input is.
_BY_PARAMETER: dict[str, tuple[str, Any]] = {
    "OneHotEncoder": ("sparse_output", True),
    "KBinsDiscretizer": ("encode", "onehot"),
    "RandomTreesEmbedding": ("sparse_output", True),
    "DictVectorizer": ("sparse", True),
}

# Transformers whose output is always sparse. None of them stores a zero.
_SPARSE = {"CountVectorizer", "TfidfVectorizer", "TfidfTransformer"}

# Transformers whose output is always dense.
_DENSE = {"PCA", "TruncatedSVD", "TargetEncoder", "OrdinalEncoder", "KMeans", "MiniBatchKMeans"}

# Transformers of numbers that give sparse rows for sparse rows, and keep exactly those zeros that aren't stored.
_KEEPING = {
    "Binarizer",
    "GenericUnivariateSelect",
    "MaxAbsScaler",
    "Normalizer",
    "PolynomialFeatures",
    "RFE",
    "RFECV",
    "RobustScaler",
    "SelectFdr",
    "SelectFpr",
    "SelectFromModel",
    "SelectFwe",
    "SelectKBest",
    "SelectPercentile",
    "SequentialFeatureSelector",
    "StandardScaler",
    "VarianceThreshold",
}

# Where estimators keep the fitted estimators that they hand their rows to.
_INNER = ("estimator", "estimator_", "best_estimator_", "estimators_", "regressor_", "calibrated_classifiers_")


def rows_of_steps(estimator: Any, *, sparse: bool | None = False) -> Iterator[tuple[Any, bool | None]]:
    """
    Yield every predictor inside a fitted estimator, and whether it receives sparse rows: None if that isn't known.

    `sparse` is whether the estimator itself receives sparse rows.
    """
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            sparse = gives_sparse(step, sparse=sparse)
        yield from rows_of_steps(estimator.steps[-1][1], sparse=sparse)
        return
    yield estimator, sparse
    for name in _INNER:
        inner = getattr(estimator, name, None)
        for each in _flat(inner):
            if hasattr(each, "predict") or hasattr(each, "estimator"):
                yield from rows_of_steps(each, sparse=sparse)
    if hasattr(estimator, "final_estimator_"):
        # A stack gives its last estimator predictions, and with `passthrough` the rows too.
        yield from rows_of_steps(estimator.final_estimator_, sparse=sparse if estimator.passthrough else False)


def note_sparse_scaling(estimator: Any) -> None:
    """
    Note at each MaxAbsScaler of a pipeline whether it receives sparse rows, for its converter.

    scikit-learn multiplies sparse rows by a reciprocal, and divides others, which may differ in the last digit.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MaxAbsScaler

    sparse: bool | None = False
    for _, step in estimator.steps if isinstance(estimator, Pipeline) else ():
        if isinstance(step, MaxAbsScaler):
            step.takes_sparse_rows = sparse is True
        sparse = gives_sparse(step, sparse=sparse)


def _flat(inner: Any) -> Iterator[Any]:
    if isinstance(inner, (list, tuple)) or type(inner).__name__ == "ndarray":
        for each in inner:
            yield from _flat(each)
    elif inner is not None:
        yield inner


def gives_sparse(transformer: Any, *, sparse: bool | None) -> bool | None:
    """Return whether a fitted transformer gives sparse rows for rows that are `sparse`; None if that isn't known."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if transformer is None or isinstance(transformer, str):
        return sparse
    if isinstance(transformer, Pipeline):
        for _, step in transformer.steps:
            sparse = gives_sparse(step, sparse=sparse)
        return sparse
    if isinstance(transformer, ColumnTransformer):
        found = {gives_sparse(step, sparse=sparse) for _, step, _ in transformer.transformers_ if step != "drop"}
        # It decides in training. If it stacks as sparse, the zeros of dense columns aren't stored.
        return False if not transformer.sparse_output_ else (None if None in found else True)
    if isinstance(transformer, FeatureUnion):
        found = {gives_sparse(step, sparse=sparse) for _, step in transformer.transformer_list if step != "drop"}
        return None if None in found else True in found
    return _by_table(transformer, sparse=sparse)


def _by_table(transformer: Any, *, sparse: bool | None) -> bool | None:
    name = type(transformer).__name__
    if name in _BY_PARAMETER:
        parameter, value = _BY_PARAMETER[name]
        return bool(getattr(transformer, parameter) == value)
    if name in _SPARSE:
        return True
    if name in _DENSE:
        return False
    if name in _KEEPING or (name == "FunctionTransformer" and transformer.func is None):
        return sparse
    return False if sparse is False and not getattr(transformer, "sparse_output", False) else None
