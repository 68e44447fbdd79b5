"""
A model as V2 sees it: what it tells of its inputs and outputs, and the form of it that has all of V2's datatypes.

RedisAI lacks FP16, UINT32 and UINT64, and carries them in larger types (`backends.base.WIDENED`). Where a backend can,
requests of V2 run on the model's own types instead. The others get what carries them.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from redisai_engine.backends.base import WIDENED, Array, LoadedModel, TensorInfo
from redisai_engine.execution.job import RunnableModel
from redisai_engine.fronts.http.access.failures import bad_request
from redisai_engine.fronts.http.v2.tensors import datatype_of

_OWN_TYPES: WeakKeyDictionary[LoadedModel, RunnableModel] = WeakKeyDictionary()


def in_own_types(model: RunnableModel) -> RunnableModel:
    """Return the form of a model that takes and answers all datatypes, or the model itself if there is no other."""
    found = _OWN_TYPES.get(model.loaded)
    if found is not None:
        return found
    loaded = model.loaded.in_own_types()
    if loaded is None or loaded is model.loaded:
        return model
    found = _OWN_TYPES[model.loaded] = RunnableModel(
        loaded,
        backend_name=model.backend_name,
        device=model.device,
        batch_size=model.batch_size,
        min_batch_size=model.min_batch_size,
        min_batch_timeout_ms=model.min_batch_timeout_ms,
        statistics=model.statistics,
        figures=model.figures,
        share=model.share,
    )
    return found


def fitted(name: str, array: Array, info: TensorInfo | None, *, carried: bool) -> Array:
    """
    Return an input as the model takes it: with `carried`, in a type that RedisAI has.

    Raise RequestRefused for another datatype or shape than the model tells. `info` is None if it tells nothing.
    """
    if info is not None:
        if array.dtype.name != info.dtype and array.dtype.name != WIDENED.get(info.dtype):
            wanted = datatype_of(np.dtype(info.dtype))
            raise bad_request(f"input {name!r} is {datatype_of(array.dtype)}, but the model takes {wanted}")
        if not _takes(info, array.shape):
            raise bad_request(f"input {name!r} has the shape {list(array.shape)}, but the model takes {shown(info)}")
    carrier = WIDENED.get(array.dtype.name) if carried else None
    return array if carrier is None else _carried(name, array, carrier)


def restored(array: Array, info: TensorInfo | None) -> Array:
    """Return an output in the model's own type, if it came in the type that carries it."""
    if info is None or array.dtype.name == info.dtype or array.dtype.name != WIDENED.get(info.dtype):
        return array
    return array.astype(info.dtype)


def _takes(info: TensorInfo, shape: tuple[int, ...]) -> bool:
    if not info.shape:  # a scalar, or a model that doesn't tell its dimensions
        return True
    return len(shape) == len(info.shape) and all(
        wanted is None or wanted == length for wanted, length in zip(info.shape, shape, strict=True)
    )


def _carried(name: str, array: Array, carrier: str) -> Array:
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise bad_request(f"input {name!r} has the value {array.max()}, which this model's backend can't take")
    return array.astype(carrier)


def shown(info: TensorInfo) -> list[int]:
    """Return a shape as V2 writes it: -1 for any length."""
    return [-1 if length is None else length for length in info.shape]
