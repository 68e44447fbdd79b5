"""
MLflow's signature → the mapping's schema and parameters. Only this module reads MLflow's own schema classes.

A graph has no parameters: it answers for one value of each, the default. pyfunc passes the defaults on in some flavors,
so a default that isn't the library's own would change the answer.

Invariant: every field of a returned schema has a tensor type. A signature with a field that can't have one is refused
here.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.native import load_native
from redisai_engine.codec.mapping import COLUMN_DTYPES, Field, Schema
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType


def schema_of(signature_inputs: Any, unread: Collection[int] = ()) -> Schema | None:
    """
    Return our schema for MLflow's schema of the inputs, None for None.

    `unread` are the positions of columns that the model doesn't read; they may have any type. Raise NotConvertible,
    naming the field.
    """
    if signature_inputs is None:
        return None
    if signature_inputs.is_tensor_spec():
        return Schema("tensors", tuple(_tensor(spec) for spec in signature_inputs.inputs))
    specs = enumerate(signature_inputs.inputs)
    return Schema("columns", tuple(_column(spec, index, used=index not in unread) for index, spec in specs))


def _column(spec: Any, index: int, *, used: bool) -> Field:
    name = None if spec.name is None else str(spec.name)
    kind = getattr(spec.type, "name", str(spec.type))
    dtype = COLUMN_DTYPES.get(kind)
    if dtype is None and not used:
        dtype = dtypes.STRING
    if dtype is None:
        shown = repr(name) if name is not None else str(index)
        raise NotConvertible(
            f"column {shown} of the model's signature is {kind}, which no tensor can hold; "
            f"allowed are {', '.join(COLUMN_DTYPES)}"
        )
    numbered = isinstance(spec.name, int) and not isinstance(spec.name, bool)
    return Field(name, kind, dtype, required=bool(getattr(spec, "required", True)), numbered=numbered, used=used)


def _tensor(spec: Any) -> Field:
    dtype = dtypes.STRING if np.dtype(spec.type).kind in "OSU" else dtypes.by_numpy(spec.type)
    # A type that RedisAI lacks: float16 becomes FLOAT; uint32 and uint64 become INT64, which holds values below 2**63.
    if dtype is None:
        dtype = dtypes.FLOAT if np.dtype(spec.type).kind == "f" else dtypes.INT64
    shape = tuple(None if length == -1 else int(length) for length in spec.shape)
    return Field(spec.name, np.dtype(spec.type).name if dtype is not dtypes.STRING else "string", dtype, shape)


def schema_of_example(example: Any, names: Collection[str]) -> Schema | None:
    """
    Return the input example's schema for a model without a signature, None if MLflow infers none.

    pyfunc hands such a model its input unchanged. So the columns have the `names` that the model knows of its training:
    without any, it takes them by their positions, whatever the example calls them.
    """
    import pandas as pd
    from mlflow.models.signature import infer_signature

    if isinstance(example, np.ndarray) and example.ndim == 2 and example.shape[1] == len(names):
        example = pd.DataFrame(example, columns=list(names))
    found = schema_of(infer_signature(example).inputs)
    if found is None or found.kind == "tensors" or names:
        return found
    return replace(found, fields=tuple(replace(item, name=None, numbered=False) for item in found.fields))


def schema_without_signature(example: Any, estimator: Any, names: Collection[str]) -> Schema:
    """
    Return the input example's schema, or else one from what a scikit-learn estimator remembers of its training.

    `names` are those of the columns that it remembers. Without an example, all columns are assumed to be float64. Raise
    NotConvertible if the estimator remembers nothing.
    """
    found = None if example is None else schema_of_example(example, names)
    if found is not None:
        return found
    if names:
        return Schema("columns", tuple(Field(name, "double", dtypes.DOUBLE) for name in names))
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        raise NotConvertible(
            f"the model {type(estimator).__name__} has no signature and no input example, and doesn't remember "
            "how many columns it was trained on; log it with a signature"
        )
    return Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, int(width))),))


def tensor_name(name: str | None, index: int) -> str:
    """Return the name of the input tensor for a column that has its own tensor."""
    return f"column_{index}" if name is None else name


def matrix_dtype(schema: Schema) -> DType:
    """Return the type of a matrix of all columns: numpy's common type, as in scikit-learn, or STRING if any is text."""
    if any(item.dtype.is_string for item in schema.fields):
        return dtypes.STRING
    found = dtypes.by_numpy(np.result_type(*[item.dtype.numpy for item in schema.fields]))
    return dtypes.DOUBLE if found is None else found


# -- parameters -----------------------------------------------------------------------------------


def params_of(model: MlflowModel, flavor: str) -> tuple[tuple[str, Any], ...]:
    """
    Return the names and defaults of the signature's parameters, as JSON has them.

    Raise NotConvertible for a default that pyfunc passes on, and that isn't the library's own.
    """
    declared = getattr(model.signature, "params", None)
    if declared is None:
        return ()
    found = tuple((str(each["name"]), each.get("default")) for each in declared.to_dict())
    # The converters of the other flavors that pass parameters on apply the defaults, or refuse them.
    if flavor == "pytorch" and found:
        _check_defaults(found, load_native(model, flavor).forward)
    return found


def _check_defaults(params: tuple[tuple[str, Any], ...], function: Any) -> None:
    try:
        own = inspect.signature(function).parameters
    # TorchScript's methods have none that Python can read.
    except (TypeError, ValueError):
        return
    for name, default in params:
        known = own.get(name)
        if known is not None and known.default is not default and known.default != default:
            needed = "has none" if known.default is inspect.Parameter.empty else f"has {known.default!r}"
            raise NotConvertible(
                f"the signature's parameter {name} has the default {default!r}, but the model's own "
                f"{function.__name__} {needed}, and a deployment answers only for that; log the model without it"
            )
