"""
The answers of a boosted model itself, from its own library.

Columns of categories reach the library as pandas categoricals that are made from the rows alone. The library then looks
the categories up in the model itself, so nothing that this package has read from the model influences the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import NoReference, Reference, pyfunc_reference
from mlflow_redisai.models.signature import tensor_name
from mlflow_redisai.models.trials.methods import Method, reference_of
from redisai_engine.codec.fields import take_columns
from redisai_engine.codec.mapping import Output, Schema
from redisai_engine.codec.values import MARKS, Array

_METHODS = {"label": "predict", "probabilities": "predict_proba", "prediction": "predict"}


def default_reference(model: MlflowModel, estimator: Any, schema: Schema, categories: Sequence[int]) -> Reference:
    """
    Return pyfunc as the reference, or the library's `predict` for a model with columns of categories.

    `categories` are the positions of these columns. MLflow refuses pandas categoricals where the signature says string,
    so pyfunc can't answer such a model.
    """
    if not categories:
        return pyfunc_reference(model)
    rows = _rows(model, estimator, schema, categories)
    return Reference(f"{_named(estimator)}'s own predict", lambda inputs: estimator.predict(rows(inputs)))


def chosen_reference(
    model: MlflowModel, estimator: Any, schema: Schema, categories: Sequence[int], outputs: Sequence[Output]
) -> Reference | NoReference:
    """Return the library's own answers for `outputs` of the graph."""
    rows = _rows(model, estimator, schema, categories)

    def method_of(output: str) -> Method | None:
        name = _METHODS[output]
        return Method(name, lambda inputs: getattr(estimator, name)(rows(inputs)))

    return reference_of(_named(estimator), outputs, method_of)


def _named(estimator: Any) -> str:
    kind = type(estimator)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _rows(model: MlflowModel, estimator: Any, schema: Schema, categories: Sequence[int]) -> Callable[[Any], Any]:
    """Return a function that turns the user's input into what the estimator's methods take."""

    def rows(inputs: Any) -> Any:
        taken = _with_categories(inputs, schema, categories) if categories else model.enforced(inputs)
        return _matrix(taken) if _named(estimator) == "xgboost.Booster" else taken

    return rows


def _with_categories(inputs: Any, schema: Schema, categories: Sequence[int]) -> Any:
    import pandas as pd

    # Whether missing text is refused is for the library to say.
    fields = (
        replace(item, missing=("None", "NaN")) if item.dtype.is_string and index in categories else item
        for index, item in enumerate(schema.fields)
    )
    columns = enumerate(take_columns(inputs, replace(schema, fields=tuple(fields))))
    return pd.DataFrame(
        {
            tensor_name(schema.fields[index].name, index): _categorical(column) if index in categories else column
            for index, column in columns
        }
    )


def _categorical(column: Array) -> Any:
    """Return a column of categories, in which missing text is missing."""
    import pandas as pd

    values = [None if value in MARKS.values() else value for value in column.tolist()]
    # XGBoost takes no column without any category.
    return pd.Categorical(values, sorted({value for value in values if value is not None}) or [""])


def _matrix(rows: Any) -> Any:
    import xgboost

    return xgboost.DMatrix(rows, enable_categorical=True)
