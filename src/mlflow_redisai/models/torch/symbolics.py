"""
ONNX's form of the operators for which torch raises an error where ONNX answers: those that take indexes.

In ONNX, a negative index counts from the end. For torch's embeddings and some others it is an error. Their exported
form replaces a negative index by one beyond the end, which ONNX Runtime refuses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mlflow_redisai.models.torch.call import untyped_torch

# Larger than the length of any axis, and within int32.
_BEYOND = 2**31 - 1
_FROM_OPSET = 9


@contextlib.contextmanager
def raising_operators() -> Iterator[None]:
    """Export these operators in our form inside the block."""
    onnx = untyped_torch().onnx
    for name, symbolic in _SYMBOLICS.items():
        onnx.register_custom_op_symbolic(name, symbolic, _FROM_OPSET)
    try:
        yield
    finally:
        for name in _SYMBOLICS:
            onnx.unregister_custom_op_symbolic(name, _FROM_OPSET)


def _embedding(g: Any, weight: Any, indices: Any, *_: Any) -> Any:
    return g.op("Gather", weight, _not_negative(g, indices))


def _index_select(g: Any, tensor: Any, dim: Any, indices: Any) -> Any:
    return g.op("Gather", tensor, _not_negative(g, indices), axis_i=_constant(dim))


def _gather(g: Any, tensor: Any, dim: Any, indices: Any, *_: Any) -> Any:
    return g.op("GatherElements", tensor, _not_negative(g, indices), axis_i=_constant(dim))


def _not_negative(g: Any, indices: Any) -> Any:
    torch = untyped_torch()
    # Compare in int64: ONNX Runtime has no Where for narrower whole numbers.
    indices = g.op("Cast", indices, to_i=torch.onnx.TensorProtoDataType.INT64)
    zero, beyond = (g.op("Constant", value_t=torch.tensor(value, dtype=torch.int64)) for value in (0, _BEYOND))
    return g.op("Where", g.op("Less", indices, zero), beyond, indices)


def _constant(value: Any) -> int:
    helper = untyped_torch().onnx.symbolic_helper
    return int(helper._get_const(value, "i", "dim"))


_SYMBOLICS = {"aten::embedding": _embedding, "aten::index_select": _index_select, "aten::gather": _gather}
