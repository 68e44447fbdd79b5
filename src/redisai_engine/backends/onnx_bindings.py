"""
The fast path for small runs of the same form: buffers that are bound to an ONNX Runtime session once.

Theory of operation. A form is the shapes and dtypes of a run's inputs. When a form occurs twice in a row, buffers for
it are bound. From then on a run copies its inputs into the buffers and its outputs out of them, which takes less time
than ONNX Runtime's own conversions. A binding is used only if its first run reproduced the outputs of the regular path,
because ONNX Runtime leaves a bound output untouched if nothing computes it. Anything unusual, errors included, falls
back to the regular path, so this module has no error texts.

Invariant: a binding is used by one thread at a time, because a run removes it from the list of free ones, and no array
that was handed out is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from redisai_engine.backends.base import Array, Outputs

_LARGEST_BYTES = 16 * 1024  # of all inputs, and of all outputs: copies must cost less than they save

Form = list[Any]  # shape, dtype, shape, dtype ... of the inputs

#: A run failed on bound buffers. The regular path shows whether the request is to blame.
FAILED: Final = ()


class Bound:
    """One binding and its buffers."""

    __slots__ = ("binding", "form", "inputs", "outputs")

    def __init__(self, form: Form, inputs: list[Array], outputs: list[Array], binding: Any) -> None:
        self.form = form
        self.inputs = inputs
        self.outputs = outputs
        self.binding = binding


class Bindings:
    """
    The bindings of one session, all of whose outputs are tensors.

    A run that fails here but succeeds on the regular path ends their use for good. The shapes of such a model's outputs
    may depend on values, for example.
    """

    __slots__ = ("_form", "_free", "_inputs", "_outputs", "_run", "_session", "_usable")

    def __init__(self, session: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._session = session
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        # As in onnx.py: the private method below InferenceSession's, which repeats checks.
        self._run: Any = getattr(getattr(session, "_sess", None), "run_with_iobinding", None)
        self._usable = self._run is not None
        self._form: Form = []  # of the latest run on the regular path
        self._free: list[Bound] = []

    def run(self, arrays: Sequence[Array], stop: Any) -> Outputs | tuple[()] | None:
        """
        Return the outputs, or None or FAILED if the run has to take the regular path.

        `stop` is a RunOptions or None.
        """
        if not self._free:
            return None
        try:
            bound = self._free.pop()
        except IndexError:  # another thread took the binding in between
            return None
        form = bound.form
        place = 0
        for array in arrays:
            if array.shape != form[place] or array.dtype != form[place + 1]:
                return None  # another form: drop the binding; `learn` binds this form if it repeats
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
        Learn from a run on the regular path, and bind buffers for a form that occurred twice in a row.

        `failed`: the same run had failed on bound buffers.
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
        """Return whether a run on the buffers writes these outputs completely."""
        for buffer, array in zip(bound.inputs, arrays, strict=True):
            buffer[...] = array
        # Fill each output with the complement of what is expected, so that a byte left unwritten shows.
        for buffer, output in zip(bound.outputs, outputs, strict=True):
            buffer.reshape(-1).view(np.uint8)[:] = ~np.frombuffer(output.tobytes(), np.uint8)
        self._run(bound.binding, None)
        return all(buffer.tobytes() == output.tobytes() for buffer, output in zip(bound.outputs, outputs, strict=True))


def _is_small(arrays: Sequence[Array]) -> bool:
    """Return whether all arrays are numeric and together small enough, but not empty."""
    size = 0
    for array in arrays:
        if array.dtype.kind not in "fiub":
            return False
        size += array.nbytes
    return 0 < size <= _LARGEST_BYTES
