"""Tensors of the type INT64 that hold one number, in the commands that set them and in Redis."""

from __future__ import annotations

from redisai_engine.protocol import dtypes
from redisai_engine.redis import store
from support.connection import Connection
from support.gateway import store_onnx

#: The answer to AI.TENSORGET of a key that isn't there.
MISSING = b"-ERR tensor key is empty or in a different shard\r\n"

Command = bytes | str | tuple[bytes | str | int, ...]


def value(number: int) -> bytes:
    """Return the string of a tensor in Redis."""
    return store.header(dtypes.INT64.code, (1,)) + number.to_bytes(8, "little")


def blob(number: int, elements: int = 1) -> bytes:
    return number.to_bytes(8, "little") * elements


def setting(key: str, number: int, elements: int = 1) -> Command:
    return ("AI.TENSORSET", key, "INT64", elements, "BLOB", blob(number, elements))


def store_identity(opened: Connection, key: str) -> None:
    """Store a model that returns such a tensor."""
    from onnx import TensorProto, helper

    from support.tiny_models import onnx_model

    numbers = (TensorProto.INT64, ("N",))
    store_onnx(opened, key, onnx_model([helper.make_node("Identity", ["x"], ["y"])], {"x": numbers}, {"y": numbers}))
