"""
The TFLITE backend, which runs models with LiteRT on the CPU.

An interpreter holds the tensors of one run, so each run takes a free interpreter or creates another one. Inputs may
have other sizes than those in the model, but not another rank. The interpreter is then resized and keeps the new sizes
for the next run. A run can't be stopped.

Invariant: an interpreter is used by one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redisai_engine.backends.base import (
    Array,
    Backend,
    BackendSettings,
    LoadedModel,
    Outputs,
    narrow,
    parse_device,
    widen,
)
from redisai_engine.errors import DeviceUnavailable, ModelLoadError, ModelRunError


class TFLiteBackend(Backend):
    """LiteRT, the successor of TensorFlow Lite."""

    name = "TFLITE"

    def __init__(self) -> None:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter
        self.version = str(ai_edge_litert.__version__)

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        if parse_device(device)[0] == "GPU":
            raise DeviceUnavailable("ERR GPU requested but TFLITE models run on the CPU only")

        def new_interpreter() -> Any:
            # With None, LiteRT chooses the number of threads.
            interpreter = self._interpreter(model_content=blob, num_threads=settings.intra_op_threads or None)
            interpreter.allocate_tensors()
            return interpreter

        try:
            return TFLiteModel(new_interpreter)
        except (ValueError, RuntimeError) as error:
            raise ModelLoadError(str(error)) from error


class TFLiteModel(LoadedModel):
    """The interpreters of one model. The names are those of its tensors, in the order of its graph."""

    def __init__(self, new_interpreter: Callable[[], Any]) -> None:
        self._new_interpreter = new_interpreter
        first = new_interpreter()
        self._inputs, self._outputs = first.get_input_details(), first.get_output_details()
        self.inputs = tuple(detail["name"] for detail in self._inputs)
        self.outputs = tuple(detail["name"] for detail in self._outputs)
        self.steady = True
        # Each with the input shapes that it was last resized to, [] before the first time.
        self._free: deque[tuple[Any, list[tuple[int, ...]]]] = deque([(first, [])])

    def example(self) -> list[Array] | None:
        if any(detail["dtype"] is np.object_ for detail in self._inputs):
            return None
        return [np.zeros(detail["shape"], detail["dtype"]) for detail in self._inputs]

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        arrays = [self._checked(detail, array) for detail, array in zip(self._inputs, arrays, strict=True)]
        shapes = [array.shape for array in arrays]
        try:
            interpreter, laid_out = self._take()
            if shapes != laid_out:
                self._lay_out(interpreter, shapes)
            for detail, array in zip(self._inputs, arrays, strict=True):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
            outputs: Outputs = [
                _output(interpreter.get_tensor(detail["index"]), detail["name"]) for detail in self._outputs
            ]
        except (ValueError, RuntimeError, TypeError) as error:
            # The interpreter is dropped, because its state is unknown.
            raise ModelRunError(str(error)) from error
        self._free.append((interpreter, shapes))
        return outputs

    def _take(self) -> tuple[Any, list[tuple[int, ...]]]:
        try:
            return self._free.pop()
        except IndexError:
            return self._new_interpreter(), []

    def _lay_out(self, interpreter: Any, shapes: Sequence[tuple[int, ...]]) -> None:
        for detail, shape in zip(self._inputs, shapes, strict=True):
            interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()

    def _checked(self, detail: dict[str, Any], array: Array) -> Array:
        rank = len(detail["shape"])
        if array.ndim != rank:
            raise ModelRunError(f"ERR input {detail['name']} has {array.ndim} dimensions; the model takes {rank}")
        return narrow(array, detail["dtype"], detail["name"]) if detail["dtype"] is not np.object_ else array


def _output(array: Array, name: str) -> Array:
    if array.dtype.kind not in "OS":
        return widen(array, name)
    text = np.empty(array.size, object)
    text[:] = [element.decode("utf-8", "surrogateescape") for element in array.ravel().tolist()]
    return text.reshape(array.shape)
