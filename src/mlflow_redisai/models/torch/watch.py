"""
What a module's Python code reads from the numbers in its tensors, and what it changes in itself when it is called.

A trace contains operators only. An `if`, a loop, `item()` or numpy in `forward` works on numbers that have left the
tensors, and the trace keeps whatever those of the example led to. torch warns about some of these reads, not about all.
So the module is watched while it runs without any tracer. Lengths are plain integers then, and don't count.

Nothing here knows MLflow.
"""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_redisai.models.torch.call import untyped_torch

# torch's functions and methods that take a tensor and return something of Python.
_READERS = {
    *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__"),
    *("__array__", "__dlpack__", "__format__", "__repr__", "numpy", "item", "tolist"),
    *("is_nonzero", "equal", "allclose"),
}


@contextlib.contextmanager
def watching() -> Iterator[dict[str, None]]:
    """Note the lines of Python code that read the numbers in tensors inside the block, as the keys of the dict."""
    base: Any = untyped_torch().overrides.TorchFunctionMode
    found: dict[str, None] = {}

    class Watch(base):  # type: ignore[misc]  # a base without types
        def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            value = function(*args, **(kwargs or {}))
            line = _line() if getattr(function, "__name__", "") in _READERS else None
            if line is not None:
                found[line] = None
            return value

    with Watch():
        yield found


def _line() -> str | None:
    """
    Return file, number and text of the line that reads: the innermost one outside torch, or in torch for its layers.

    Return None for a line of ours, which takes the answer.
    """
    torch_folder, own = str(Path(untyped_torch().__file__).parent), str(Path(__file__).parent)
    inner = frame = sys._getframe(2)
    if inner.f_code.co_filename.startswith(own):
        return None
    while frame.f_back is not None and frame.f_code.co_filename.startswith(torch_folder):
        frame = frame.f_back
    if frame.f_code.co_filename.startswith(own):
        frame = inner
    return described(frame.f_code.co_filename, frame.f_lineno)


def described(path: str, number: int) -> str:
    """Return a line of Python code for an error: the name of its file, its number, and its text if that is known."""
    text = linecache.getline(path, number).strip()
    return f"{Path(path).name}, line {number}" + (f": {text[:80]}" if text else "")


# -- state ----------------------------------------------------------------------------------------


class State:
    """The parameters and buffers of a module at a moment, to find out later whether calls have changed them."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._seen = {name: (tensor, tensor._version) for name, tensor in _tensors(module)}

    def changed(self) -> str | None:
        """Return the name of a parameter or buffer that has changed since, or None."""
        for name, tensor in _tensors(self._module):
            before, version = self._seen.get(name, (None, 0))
            if tensor is not before or tensor._version != version:
                return name
        return None


def _tensors(module: Any) -> list[tuple[str, Any]]:
    # Of a ScriptModule, a new Python object stands for the same tensor every time, so changes in it can't be seen here.
    if isinstance(module, untyped_torch().jit.ScriptModule):
        return []
    return [*module.named_parameters(), *module.named_buffers()]
