"""
How to feed models without a record, which other clients stored.

RedisAI's META has the names of inputs and outputs, but no types. An ONNX model declares its types, so its blob is
fetched once.

Invariant: a model with an output that is not a tensor is never run, because in a DAG it crashes RedisAI 1.2.7.
"""

from __future__ import annotations

from collections.abc import Callable

from mlflow_redisai import errors
from mlflow_redisai.server.commands import ModelMeta
from redisai_engine.codec import onnx_types
from redisai_engine.codec.mapping import Answer, Input, Mapping, Output, Part
from redisai_engine.protocol import dtypes


def mapping_of(name: str, meta: ModelMeta, fetch: Callable[[], bytes]) -> Mapping:
    """
    Return the mapping of a model without a record. `fetch` returns its blob.

    Raise InvalidRequest if an output is not a tensor, as with ZipMap.
    """
    if meta.backend == "PYFUNC":
        return _parcels()
    generic = Mapping.generic(list(meta.inputs), list(meta.outputs))
    if meta.backend != "ONNX":
        return generic
    with errors.of_codec():
        return onnx_types.with_own_types(generic, fetch(), name)


def _parcels() -> Mapping:
    """Return the mapping of a Python model, which takes anything."""
    ends = Input("input", dtypes.UINT8, (None,)), Output("output", dtypes.UINT8)
    return Mapping(ends[:1], ends[1:], (0,), Answer("like input", (Part("output"),)), parcel=True)
