"""
A model as V2 sees it: what it tells of its inputs and outputs, and the form of it that has all of V2's datatypes.

RedisAI lacks FP16, UINT32 and UINT64, and carries them in larger types (`backends.base.WIDENED`). Where a backend can,
requests of V2 run on the model's own types instead. The others get what carries them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from redisai_engine.backends.base import WIDENED, Array, LoadedModel, TensorInfo
from redisai_engine.execution.job import RunnableModel
from redisai_engine.fronts.http.access.failures import bad_request
from redisai_engine.fronts.http.v2.tensors import datatype_of


@dataclass(frozen=True, slots=True)
class TakenInput:
    """An input: its name, what the model tells of it, and the types of arrays that it takes, by their characters."""

    name: str
    info: TensorInfo | None
    kinds: str

    def fitted(self, array: Array, *, is_carried: bool) -> Array:
        """Return an array as the model takes it. Raise RequestRefused for another datatype or shape."""
        info = self.info
        if info is not None:
            if array.dtype.char not in self.kinds:
                wanted = datatype_of(np.dtype(info.dtype))
                raise bad_request(f"input {self.name!r} is {datatype_of(array.dtype)}, but the model takes {wanted}")
            if not _takes(info, array.shape):
                raise bad_request(
                    f"input {self.name!r} has the shape {list(array.shape)}, but the model takes {shown(info)}"
                )
        carrier = WIDENED.get(array.dtype.name) if is_carried else None
        return array if carrier is None else _carried(self.name, array, carrier)


@dataclass(frozen=True, slots=True)
class V2Model:
    """
    A model that runs V2's requests. `restored` are outputs that come in other types than the model's own.

    `form` is what runs; None: the model itself. `made_of` is what was loaded when this was made.
    """

    made_of: LoadedModel
    form: RunnableModel | None
    inputs: tuple[TakenInput, ...]
    outputs: tuple[str, ...]
    restored: dict[str, np.dtype[Any]]
    is_carried: bool


def v2_model(model: RunnableModel) -> V2Model:
    """Return the form of a model that takes and answers as many of V2's datatypes as its backend can."""
    found: V2Model | None = model.view
    if found is None or found.made_of is not model.loaded:
        found = model.view = _v2_model(model)
    return found


def _v2_model(model: RunnableModel) -> V2Model:
    own = model.loaded.in_own_types()
    loaded = own or model.loaded
    told: Iterable[TensorInfo | None] = loaded.input_infos or itertools.repeat(None)
    inputs = [
        TakenInput(name, info, "" if info is None else _kinds(info.dtype))
        for name, info in zip(loaded.inputs, told, strict=False)
    ]
    restored = {
        name: np.dtype(info.dtype)
        for name, info in zip(loaded.outputs, loaded.output_infos, strict=False)
        if own is None and info is not None and info.dtype in WIDENED
    }
    form = None if loaded is model.loaded else _form(model, loaded)
    return V2Model(model.loaded, form, tuple(inputs), loaded.outputs, restored, own is None)


@lru_cache(maxsize=100)  # a tenth of a millisecond, which a deployment's first request would pay
def _kinds(dtype: str) -> str:
    """Return the characters of the element types that may stand for one: its own, and those of what carries it."""
    names = (dtype, WIDENED[dtype]) if dtype in WIDENED else (dtype,)
    # A 64-bit integer has two characters, of which NumPy prefers now the one and now the other.
    kinds = list(map(str, np.typecodes["All"]))  # as a list, because mypyc can't iterate over literals
    return "".join([kind for kind in kinds if np.dtype(kind).name in names])


def _form(model: RunnableModel, loaded: LoadedModel) -> RunnableModel:
    """Return the runnable model of a form of its loaded model, in the same queue."""
    return RunnableModel(
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


def _takes(info: TensorInfo, shape: tuple[int, ...]) -> bool:
    told = info.shape
    if not told:  # a scalar, or a model that doesn't tell its dimensions
        return True
    if len(shape) != len(told):
        return False
    for wanted, length in zip(told, shape, strict=True):  # noqa: SIM110  # twice as fast as all()
        if wanted is not None and wanted != length:
            return False
    return True


def _carried(name: str, array: Array, carrier: str) -> Array:
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise bad_request(f"input {name!r} has the value {array.max()}, which this model's backend can't take")
    return array.astype(carrier)


def shown(info: TensorInfo) -> list[int]:
    """Return a shape as V2 writes it: -1 for any length."""
    return [-1 if length is None else length for length in info.shape]
