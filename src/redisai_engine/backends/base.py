"""
The interface between the engine and a framework: load a model from a blob, then run it on lists of arrays.

A backend knows nothing of keys, queues, batches or the wire.

Every backend treats element types that RedisAI's tensors lack in the same way: such an input is taken, and such an
output is returned, in the smallest RedisAI type that holds all its values (`WIDENED`). A type without one is an error.

Invariant: `LoadedModel.run` may be called from several threads at once, changes neither the model nor its arrays, and
raises nothing but ModelRunError.
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
#: One element for each of the model's outputs. None stands for an output that isn't a tensor and is left out.
Outputs: TypeAlias = list[Array | None]

#: NumPy's name of each type that RedisAI lacks, and of the type that carries it.
WIDENED = {"float16": "float32", "uint32": "int64", "uint64": "int64"}


#: Digits of a device's number that are read. No machine has a device with a longer one.
_LONGEST_NUMBER = 9


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """
    Settings for every model of every backend. A number of threads of 0 is the framework's choice.

    `onnx_memory` is how many bytes the runs of all ONNX models of this process may take together; 0: any number.
    """

    intra_op_threads: int = 1
    inter_op_threads: int = 1
    onnx_memory: int = 0


class Stop(Protocol):
    """A switch that stops one run from another thread: set `terminate` to True."""

    terminate: bool


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a model tells of an input or output: NumPy's name of the element type, and the lengths. None: any."""

    dtype: str
    shape: tuple[int | None, ...]


class LoadedModel(ABC):
    """A model in memory. `inputs` and `outputs` are the names that AI.MODELGET shows."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    #: What it tells of them, in the same order; empty if it tells nothing. None stands for an output that is no tensor.
    input_infos: tuple[TensorInfo, ...] = ()
    output_infos: tuple[TensorInfo | None, ...] = ()
    #: The run time depends on the shapes of the inputs, not on their values, so earlier runs predict later ones.
    steady: bool = False
    #: As long as the first input has no more rows than this. With more, values may count.
    loop_rows: int = 1 << 62
    #: Some of its inputs may be text, whose length counts too.
    takes_text: bool = False
    #: It runs in another process, so the CPU time of the thread that waits for it says nothing.
    is_elsewhere: bool = False
    #: How many of its processes have died, if it runs in such.
    deaths: int = 0
    #: Why it answers nothing until it is stored anew; empty while it answers.
    failure: str = ""
    #: It takes parcels (`protocol/parcels.py`) too, which can't be joined. They are vectors of UINT8.
    takes_parcels: bool = False
    #: So many runs of it take place at the same time, in processes of its own; 0: as many as the device has threads.
    at_once: int = 0
    #: What it takes, in bytes, where it knows that itself.
    memory: int = 0
    #: What its own processes took of the machine's memory when that was last measured, in bytes; None: it has none.
    taken: int | None = None

    @abstractmethod
    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        """
        Run the model on one array per input and return one element per output. Raise ModelRunError.

        `stop` is from `new_stop`, or None for a run that can't be stopped.
        """

    def rehearse(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        """Run the model on made-up inputs, from which nothing can be concluded but how long a run takes."""
        return self.run(arrays, stop)

    def new_stop(self) -> Stop | None:
        """Return a switch for one run, or None if the framework can't stop a run."""
        return None

    def in_own_types(self) -> LoadedModel | None:
        """
        Return the same model, but one whose inputs and outputs have element types that RedisAI lacks, without a detour.

        Return None for a model that can't do that. For one that has no such types it is the model itself.
        """
        return None

    def new_stream(self, held: set[object]) -> ModelStream | None:
        """
        Return a stream of answers to one input, which hasn't begun, or None if the model gives whole answers only.

        While it occupies a process of the model's, it is in `held`.
        """
        return None

    def reserve(self, arrays: Sequence[Array]) -> Errand | None:
        """
        Return an errand that could begin now, for a run on these inputs, or None. Never wait.

        It occupies a process of the model's, so it must begin.
        """
        return None

    def give_back(self) -> None:  # noqa: B027  # few have any
        """Free memory that only runs at the same time need."""

    def measure(self) -> None:  # noqa: B027  # few have processes
        """Measure `taken`, which takes milliseconds for each of its processes."""

    def leaves(self) -> None:  # noqa: B027  # few have to do anything
        """Take that it leaves memory as soon as the runs that have begun have ended."""

    def example(self) -> list[Array] | None:
        """Return small made-up inputs, or None if the model doesn't tell enough of what it takes."""
        return None


class ModelStream(LoadedModel):
    """A stream of answers. Each run returns the next one; the first has the input, the others none."""

    is_over: bool = False

    @abstractmethod
    def close(self) -> bool:
        """Have the stream ended. Return whether that takes another run, which then returns nothing."""


class Errand(ABC):
    """A run that a process of the model's own carries out, without a thread that waits for it."""

    @abstractmethod
    def begin(self, arrays: Sequence[Array], stop: Any, *, is_alone: bool) -> int:
        """
        Send the inputs. Return the descriptor at which the answer arrives. Never wait.

        `stop` is from `new_stop`. `is_alone`: no other request waits or is being run, so the next one may come soon.
        """

    @abstractmethod
    def answer(self) -> Outputs | None:
        """Return the answer, which begins to arrive, or None if it is for `wait`. Never wait. Raise ModelRunError."""

    @abstractmethod
    def wait(self) -> Outputs:
        """Wait for the rest of the answer and return it. Raise ModelRunError."""


class NoModel(LoadedModel):
    """Stands for a model that is no longer in memory."""

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        raise ModelRunError("ERR the model is no longer in memory; try again")


class Backend(ABC):
    """A framework. Creating an instance imports it and raises ImportError if it isn't installed."""

    name: ClassVar[str]
    version: str

    @abstractmethod
    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        """
        Load a model from its bytes onto a device such as "CPU" or "GPU:1". Raise ModelLoadError or DeviceUnavailable.

        `inputs` and `outputs` are the names given to AI.MODELSTORE; only TF needs them.
        """

    def require(self, blob: bytes) -> None:  # noqa: B027  # most backends have all they need
        """
        Raise ModelLoadError for a model whose `load` would take minutes, because what it needs must be made first.

        That has begun then, and the error's `again` tells whether it has ended. For loads that a request waits for.
        """

    def try_out(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        """Load a model in a process whose memory is limited. Raise the errors of `load`, and MemoryError."""
        return self.load(blob, device, inputs=inputs, outputs=outputs, settings=settings)

    def close(self) -> None:  # noqa: B027  # most backends have nothing to end
        """End what the backend has started."""

    def warm_up(self) -> None:  # noqa: B027  # most frameworks start threads in their first run, which a fork loses
        """Run something of one's own, so that hosts forked later share the memory that a first run takes."""


def parse_device(device: str) -> tuple[str, int]:
    """
    Split `GPU:1` into ("GPU", 1), in any letter case. A machine has one CPU, whatever number follows.

    A missing or malformed number is 0. As in RedisAI, what follows the first three letters may be anything.
    """
    if device[:3].upper() != "GPU":
        return "CPU", 0
    number = device.partition(":")[2]
    return "GPU", int(number[:_LONGEST_NUMBER]) if number.isdecimal() else 0


def widen(array: Array, name: str) -> Array:
    """Return an output in a type that RedisAI has. Raise ModelRunError if there is none or a value doesn't fit."""
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
    Return an input in the type that the model wants, if it arrived in the type that carries it.

    An input of any other type is returned unchanged, so that the framework refuses it in its own words. Raise
    ModelRunError for a number that the model's unsigned type can't hold.
    """
    wanted = np.dtype(dtype)
    if array.dtype.name != WIDENED.get(wanted.name):
        return array
    if wanted.kind == "u" and array.size:
        limits = np.iinfo(wanted)
        lowest, highest = int(array.min()), int(array.max())
        if lowest < 0 or highest > limits.max:
            wrong = lowest if lowest < 0 else highest
            raise ModelRunError(f"ERR input {name} ({wanted}) has the value {wrong}; allowed: 0 to {limits.max}")
    return array.astype(wanted)
