"""
The methods of a model's own library as the reference for outputs that the user chose (`-C outputs=...`).

The converter names a graph's outputs, and each flavor knows which method answers for which name. This module only calls
the methods, and shapes their answers as the graph declares its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.models.reference import NoReference, Reference
from redisai_engine.codec.mapping import Output, Shape
from redisai_engine.codec.values import Array


@dataclass(frozen=True)
class Method:
    """A method of the library. `call` takes predict's input and returns the method's answer for one output."""

    name: str
    call: Callable[[Any], Any]


def reference_of(
    owner: str, outputs: Sequence[Output], method_of: Callable[[str], Method | None]
) -> Reference | NoReference:
    """
    Return the library's own answers for `outputs`: one array, or a dict of arrays by name for several.

    `owner` names the model's class. `method_of` returns the method for an output's name, or None; without a method for
    every output, there is no reference.
    """
    methods = {output.name: method_of(output.name) for output in outputs}
    known = {name: method for name, method in methods.items() if method is not None}
    if len(known) < len(methods):
        missing = ", ".join(repr(name) for name in methods if name not in known)
        return NoReference(f"{owner} itself has no method that gives {missing}")
    shapes = {output.name: output.shape for output in outputs}

    def answer(inputs: Any) -> Any:
        found = {name: as_declared(method.call(inputs), shapes[name]) for name, method in known.items()}
        return found if len(found) > 1 else next(iter(found.values()))

    return Reference(f"{owner}'s own {' and '.join(dict.fromkeys(each.name for each in known.values()))}", answer)


def as_declared(answer: Any, shape: Shape | None) -> Array:
    """Return an answer as an array. One number a row becomes a column, or flat, as the declared shape has it."""
    values = np.asarray(answer)
    if shape is None or values.ndim == len(shape):
        return values
    if values.ndim == 1 and len(shape) == 2:
        return values.reshape(-1, 1)
    return values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
