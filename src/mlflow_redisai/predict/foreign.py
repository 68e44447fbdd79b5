"""
Models that somebody else stored, without a record: how they are fed.

RedisAI's META names inputs and outputs and tells no types. An ONNX model tells them itself, so its bytes are fetched
once. Invariant: a model with an output that is no tensor is never run: in a DAG it crashes a RedisAI 1.2.7 server.
"""

from __future__ import annotations

from collections.abc import Callable

from mlflow_redisai import errors
from mlflow_redisai.server.commands import ModelMeta
from redisai_engine.codec import onnx_types
from redisai_engine.codec.mapping import Mapping


def mapping_of(name: str, meta: ModelMeta, fetch: Callable[[], bytes]) -> Mapping:
    """Return the mapping of a model without a record; `fetch` gives its bytes. Raise InvalidRequest for a ZipMap."""
    generic = Mapping.generic(list(meta.inputs), list(meta.outputs))
    if meta.backend != "ONNX":
        return generic
    with errors.of_codec():
        return onnx_types.with_own_types(generic, fetch(), name)
