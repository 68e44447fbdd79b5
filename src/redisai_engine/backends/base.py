"""
What the engine asks of a framework: load a blob, then run lists of arrays.

A backend knows nothing of keys, queues, batches or the wire. Invariant: `LoadedModel.run` may be called from several
threads at once, changes neither the model nor its arrays, and raises nothing but ModelRunError.

Element types that RedisAI's tensors don't have follow one rule in every backend: such an input is fed from, and such
an output is answered in, the smallest RedisAI type that holds all its values (`WIDENED`). What has none is an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from redisai_engine.errors import ModelRunError
from redisai_engine.protocol import dtypes

Array: TypeAlias = npt.NDArray[Any]
#: One element for each of the model's outputs; None for one that isn't a tensor and is left out.
Outputs: TypeAlias = list[Array | None]

#: numpy's name of a type that RedisAI lacks: the type it travels in.
WIDENED = {"float16": "float32", "uint32": "int64", "uint64": "int64"}


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """Settings that hold for every model of every backend; 0 leaves a number of threads to the framework."""

    intra_op_threads: int = 1
    inter_op_threads: int = 1


class Stop(Protocol):
    """Stops a run from another thread: set `terminate` to True."""

    terminate: bool


class LoadedModel(ABC):
    """A model in memory; `inputs` and `outputs` are the names that AI.MODELGET shows."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    #: The run time follows from the shapes of the inputs, not from their values: measured once, it is known.
    steady: bool = False

    @abstractmethod
    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        """Runs the model on one array for each input. Raises ModelRunError. `stop` comes from `new_stop`."""

    def new_stop(self) -> Stop | None:
        """Gives a switch for one run, or None where the framework can't stop a run."""
        return None


class Backend(ABC):
    """A framework. Making one imports it: ImportError if it isn't there."""

    name: ClassVar[str]
    version: str

    @abstractmethod
    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        """
        Loads a model from its bytes. Raises ModelLoadError or DeviceUnavailable.

        `inputs` and `outputs` are the names given with AI.MODELSTORE; only TF needs them.
        """


def parse_device(device: str) -> tuple[str, int]:
    """Splits `GPU:1` into ("GPU", 1); a missing or odd number is 0. Letter case doesn't matter."""
    kind, _, index = device.upper().partition(":")
    return kind, int(index) if index.isdecimal() else 0


def widen(array: Array, name: str) -> Array:
    """Gives an output in a type that RedisAI has. Raises ModelRunError if there is none or a value doesn't fit."""
    if dtypes.by_numpy(array.dtype) is not None:
        return array
    target = WIDENED.get(array.dtype.name)
    if target is None:
        raise ModelRunError(f"ERR output {name} has elements of type {array.dtype}, which no tensor type can hold")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ModelRunError(f"ERR output {name} (uint64) has the value {array.max()}, which INT64 can't hold")
    return array.astype(target)


def narrow(array: Array, dtype: npt.DTypeLike, name: str) -> Array:
    """
    Gives an input in the type the model wants, if it came in the type that stands for it.

    Any other type is passed on as it is, for the framework to refuse in its own words.
    """
    wanted = np.dtype(dtype)
    if array.dtype.name != WIDENED.get(wanted.name):
        return array
    if wanted.kind == "u" and array.size:
        limits = np.iinfo(wanted)
        lowest, highest = int(array.min()), int(array.max())
        if lowest < 0 or highest > limits.max:
            wrong = lowest if lowest < 0 else highest
            raise ModelRunError(f"ERR input {name} ({wanted}) has the value {wrong}; allowed are 0 to {limits.max}")
    return array.astype(wanted)
