"""
Models that somebody else stored, without a record: what can be found out about how they are fed.

RedisAI's META names inputs and outputs and tells no types. An ONNX model tells them itself, so its bytes are fetched
once. Invariant: a model with an output that is no tensor is never run: in a DAG it crashes a RedisAI 1.2.7 server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_redisai.errors import InvalidRequest
from mlflow_redisai.models import graph
from mlflow_redisai.server.commands import ModelMeta
from redisai_engine.codec.mapping import Input, Mapping

if TYPE_CHECKING:
    import onnx


def mapping_of(name: str, meta: ModelMeta, fetch: Callable[[], bytes]) -> Mapping:
    """Makes the mapping of a model without a record; `fetch` gives its bytes. Raises InvalidRequest for a ZipMap."""
    generic = Mapping.generic(list(meta.inputs), list(meta.outputs))
    if meta.backend != "ONNX":
        return generic
    proto = _parsed(fetch())
    if proto is None:
        return generic
    for output in proto.graph.output:
        if output.type.WhichOneof("value") != "tensor_type":
            raise InvalidRequest(
                f"the model {name!r} can't be predicted with: its output {output.name!r} is no tensor; deploy it with "
                "mlflow-redisai, or convert it without ZipMap"
            )
    types = {item.name: graph.dtype_of(item) for item in graph.free_inputs(proto)}
    # No shapes: what a model of unknown origin means by its axes is its own, and the server checks them.
    typed = tuple(Input(item.name, types.get(item.name)) for item in generic.inputs)
    return replace(generic, inputs=typed)


def _parsed(blob: bytes) -> onnx.ModelProto | None:
    """Reads an ONNX model; None for what the onnx package here can't read, though the server could."""
    import onnx

    try:
        return onnx.load_model_from_string(blob)
    except Exception:  # protobuf's DecodeError, whichever of its implementations is installed
        return None
