"""
Small runs of one form after another on buffers that are bound to an ONNX Runtime session once.

A form is the shapes and dtypes of inputs and outputs. When the inputs' comes twice in a row, buffers for it are bound;
from then on a run copies its inputs there and its outputs from there, which takes less time than ONNX Runtime's own
conversions. A binding is used only if its first run wrote what the ordinary way answered: ONNX Runtime leaves a bound
output alone that nothing computes. Whatever isn't as usual goes the ordinary way, errors too, so there are no texts.

Invariant: a binding is used by one thread at a time, because it is taken out of the list of free ones for the run, and
no array that was handed out is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from redisai_engine.backends.base import Array, Outputs

_LARGEST_BYTES = 16 * 1024  # of all inputs, and of all outputs: the copies have to cost less than what they save

Form = list[Any]

#: A run failed on bound buffers. The ordinary way tells whether that is the request's fault.
FAILED: Final = ()


class Bound:
    """One binding with its buffers."""

    __slots__ = ("binding", "form", "inputs", "outputs")

    def __init__(self, form: Form, inputs: list[Array], outputs: list[Array], binding: Any) -> None:
        self.form = form
        self.inputs = inputs
        self.outputs = outputs
        self.binding = binding


class Bindings:
    """
    Those of one session, whose outputs are all tensors.

    A run that fails here and works the ordinary way ends them for good: its outputs' shapes follow from values, say.
    """

    __slots__ = ("_form", "_free", "_inputs", "_outputs", "_run", "_session", "_usable")

    def __init__(self, session: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._session = session
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        # As in onnx.py: the method below InferenceSession's, which checks again what is checked already.
        self._run: Any = getattr(getattr(session, "_sess", None), "run_with_iobinding", None)
        self._usable = self._run is not None
        self._form: Form = []  # of the latest run that went the ordinary way
        self._free: list[Bound] = []

    def run(self, arrays: Sequence[Array], stop: Any) -> Outputs | tuple[()] | None:
        """Return the outputs; None or FAILED: the run has to go the ordinary way. `stop` is RunOptions or None."""
        if not self._free:
            return None
        try:
            bound = self._free.pop()
        except IndexError:  # another thread was faster
            return None
        form = bound.form
        place = 0
        for array in arrays:
            if array.shape != form[place] or array.dtype != form[place + 1]:
                return None
            bound.inputs[place >> 1][...] = array
            place += 2
        try:
            self._run(bound.binding, stop)
        except Exception:
            return FAILED
        outputs: Outputs = [buffer.copy() for buffer in bound.outputs]
        self._free.append(bound)
        return outputs

    def learn(self, arrays: Sequence[Array], outputs: Sequence[Array], *, failed: bool) -> None:
        """
        Take note of what went the ordinary way, and bind buffers for a form that came twice in a row.

        `failed`: the same run failed on bound buffers before.
        """
        self._usable = self._usable and not failed
        if not self._usable:
            return
        form: Form = []
        for array in arrays:
            form += (array.shape, array.dtype)
        seen, self._form = self._form == form, form
        if seen and _is_small(arrays) and _is_small(outputs):
            try:
                bound = self._bind(form, arrays, outputs)
                self._usable = self._answers(bound, arrays, outputs)
            except Exception:  # a type or a version that can't be bound
                self._usable = False
            if self._usable:
                self._free = [bound]

    def _bind(self, form: Form, arrays: Sequence[Array], outputs: Sequence[Array]) -> Bound:
        ins = [np.zeros(array.shape, array.dtype) for array in arrays]
        outs = [np.zeros(array.shape, array.dtype) for array in outputs]
        binding = self._session.io_binding()
        for name, buffer in zip(self._inputs, ins, strict=True):
            binding.bind_cpu_input(name, buffer)
        for name, buffer in zip(self._outputs, outs, strict=True):
            binding.bind_output(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        return Bound(form, ins, outs, binding._iobinding)

    def _answers(self, bound: Bound, arrays: Sequence[Array], outputs: Sequence[Array]) -> bool:
        """Tell whether a run on the buffers writes these outputs, each of them whole."""
        for buffer, array in zip(bound.inputs, arrays, strict=True):
            buffer[...] = array
        for buffer, output in zip(bound.outputs, outputs, strict=True):
            buffer.reshape(-1).view(np.uint8)[:] = ~np.frombuffer(output.tobytes(), np.uint8)
        self._run(bound.binding, None)
        return all(buffer.tobytes() == output.tobytes() for buffer, output in zip(bound.outputs, outputs, strict=True))


def _is_small(arrays: Sequence[Array]) -> bool:
    """Tells whether arrays are of numbers, and few."""
    size = 0
    for array in arrays:
        if array.dtype.kind not in "fiub":
            return False
        size += array.nbytes
    return 0 < size <= _LARGEST_BYTES
