"""
A torch module as a function from arrays to arrays: how it is called, and the structure of its output.

Nothing here knows MLflow, or what the module is converted to.

Invariant: `ModuleCall.run`, the measure of a conversion, runs the module as it was logged, on the CPU and without
gradients, as mlflow.pyfunc does.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.structure import Structure
from redisai_engine.codec.mapping import Input
from redisai_engine.codec.values import Array

# Element types of torch that numpy lacks, each with a wider one that numpy has.
_WIDENED = {"torch.bfloat16": "float32"}


def untyped_torch() -> Any:
    """Return the package torch as Any, so that type checks give the same result where it isn't installed."""
    import torch

    return torch


@dataclass(frozen=True)
class ModuleCall:
    """
    A module and how to call it. `what` names it in errors.

    The module takes its inputs by the names in `keywords`, or by position if that is None. `casts` are torch's names of
    the types that inputs are cast to, None for an input that isn't cast. `batch` is the only number of rows that the
    module takes, None for any number.
    """

    what: str
    module: Any
    inputs: tuple[Input, ...]
    keywords: tuple[str, ...] | None
    casts: tuple[str | None, ...]
    batch: int | None = None

    def answer(self, tensors: Sequence[Any]) -> Any:
        """Call the module with torch's tensors, one per input."""
        return _called(self.module, self.keywords, _cast(tensors, self.casts))

    def structure(self, arrays: Sequence[Array]) -> Structure:
        """Run the module once to find the structure of its output. Raise NotConvertible if it can't be served."""
        torch = untyped_torch()

        with torch.no_grad():
            return _structure(self.answer(self._tensors(arrays)[0]), self.what)

    def run(self, arrays: Sequence[Array], structure: Structure) -> list[Array]:
        """Run the module on any number of rows. With a fixed batch, run it piece by piece, with the last one padded."""
        torch = untyped_torch()

        with torch.no_grad():
            pieces = [structure.flat(self.answer(piece)) for piece in self._tensors(arrays)]
        joined = [
            to_numpy(outputs[0]) if len(outputs) == 1 else _joined(outputs) for outputs in zip(*pieces, strict=True)
        ]
        return [array[: len(arrays[0])] if self.batch else array for array in joined]

    def _tensors(self, arrays: Sequence[Array]) -> list[list[Any]]:
        torch = untyped_torch()

        size = self.batch or len(arrays[0])
        starts = range(0, len(arrays[0]), size)
        return [
            [torch.from_numpy(np.array(_filled(array[start : start + size], size))) for array in arrays]
            for start in starts
        ]


def flat_module(module: Any, call: ModuleCall, structure: Structure) -> Any:
    """Return a torch module that takes the call's inputs by position and returns a tensor, or a tuple of tensors."""
    base: Any = untyped_torch().nn.Module

    class Flat(base):  # type: ignore[misc]  # a base without types
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: Any) -> Any:
            outputs = structure.flat(_called(self.inner, call.keywords, _cast(tensors, call.casts)))
            return outputs if len(outputs) > 1 else outputs[0]

    return Flat().eval()


def to_numpy(tensor: Any) -> Array:
    """Return the tensor as an array on the CPU, widened if numpy lacks its type."""
    widened = _WIDENED.get(str(tensor.dtype))
    array: Array = (tensor if widened is None else tensor.float()).detach().cpu().numpy()
    return array


def _called(module: Any, keywords: tuple[str, ...] | None, tensors: Sequence[Any]) -> Any:
    if keywords is None:
        return module(*tensors)
    return module(**dict(zip(keywords, tensors, strict=True)))


def _cast(tensors: Sequence[Any], casts: Sequence[str | None]) -> list[Any]:
    torch = untyped_torch()

    return [
        tensor if name is None else tensor.to(getattr(torch, name)) for tensor, name in zip(tensors, casts, strict=True)
    ]


def _filled(array: Array, size: int) -> Array:
    if len(array) == size:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _joined(outputs: Sequence[Any]) -> Array:
    return np.concatenate([to_numpy(output) for output in outputs])


def _structure(answer: Any, what: str) -> Structure:
    torch = untyped_torch()

    if isinstance(answer, torch.Tensor):
        return Structure("tensor", ("output",))
    if isinstance(answer, Dictionary):
        found = Structure("dict", tuple(str(name) for name in answer))
        values = list(answer.values())
    elif isinstance(answer, (list, tuple)):
        found = Structure("list", tuple(f"output_{index}" for index in range(len(answer))))
        values = list(answer)
    else:
        raise _no_tensors(what, type(answer).__name__)
    for name, value in zip(found.names, values, strict=True):
        if not isinstance(value, torch.Tensor):
            raise _no_tensors(what, f"a {type(answer).__name__} with a {type(value).__name__} as {name!r}")
    if not values:
        raise _no_tensors(what, f"an empty {type(answer).__name__}")
    return found


def _no_tensors(what: str, got: str) -> NotConvertible:
    return NotConvertible(
        f"{what} returns {got}; only a tensor, or a list, tuple or dict of tensors, can be served: "
        "wrap the model in a module whose forward returns that, and log the wrapper"
    )
