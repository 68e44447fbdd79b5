"""
Torch modules → TorchScript programs: the format of RedisAI's backend TORCH, and what ONNX is exported from.

There are up to two ways to get there, scripting and tracing; which of them is right is found out by running what came
out (`torch_export`). Every program takes tensors by position and gives a tensor or a tuple of tensors.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.graph import first_line
from mlflow_redisai.models.pt2 import to_script
from mlflow_redisai.models.torch_call import Call, Structure, flat_module, to_numpy, untyped_torch
from mlflow_redisai.values import Array
from redisai_engine.protocol.tensor import Tensor


@dataclass(frozen=True)
class Source:
    """A module to convert; `program` is the torch.export program that it came from, None for any other."""

    call: Call
    structure: Structure
    program: Any = None


def programs(source: Source, arrays: Sequence[Array]) -> Iterator[Callable[[], Any]]:
    """Gives ways to make a program, best first; each raises NotConvertible if it can't. `arrays` are an example."""
    call, structure = source.call, source.structure
    if source.program is not None:
        # Its outputs come as a tuple, whatever the module makes of them.
        count = len(structure.names)
        plain = Structure("tensor" if count == 1 else "list", structure.names)
        by_position = Call(call.what, None, call.inputs, None, call.casts)
        yield lambda: _trace(_script(source.program, to_script, call.what), by_position, plain, arrays)[0]
        yield lambda: _trace(call.module, call, structure, arrays)[0]
        return
    yield from _of_module(call, structure, arrays)


def _of_module(call: Call, structure: Structure, arrays: Sequence[Array]) -> Iterator[Callable[[], Any]]:
    torch = untyped_torch()

    def scripted() -> Any:
        return _trace(_script(call.module, torch.jit.script, call.what), call, structure, arrays)[0]

    # A ScriptModule stays what it is inside a traced one.
    if isinstance(call.module, torch.jit.ScriptModule):
        yield lambda: _trace(call.module, call, structure, arrays)[0]
        return
    traced, doubtful = _trace(call.module, call, structure, arrays)
    if doubtful:
        yield scripted
    yield lambda: traced
    if not doubtful:
        yield scripted


def _script(module: Any, script: Callable[[Any], Any], what: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return script(module)
    except Exception as error:
        raise NotConvertible(f"{what} can't be scripted by torch: {first_line(error)}") from error


def _trace(module: Any, call: Call, structure: Structure, arrays: Sequence[Array]) -> tuple[Any, bool]:
    """Gives the traced program, and whether torch warned that its way may depend on the example's values."""
    torch = untyped_torch()

    tensors = tuple(torch.from_numpy(np.array(array)) for array in arrays)
    try:
        with warnings.catch_warnings(record=True) as told, torch.no_grad():
            warnings.simplefilter("always")
            traced = torch.jit.trace(flat_module(module, call, structure), tensors, check_trace=False, strict=False)
    except Exception as error:
        raise NotConvertible(f"{call.what} can't be traced by torch: {first_line(error)}") from error
    return traced, any(issubclass(warning.category, torch.jit.TracerWarning) for warning in told)


# -- blobs ----------------------------------------------------------------------------------------


def to_blob(program: Any) -> bytes:
    """Gives the program's bytes as RedisAI's backend TORCH takes them."""
    torch = untyped_torch()

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(program, buffer)
    return buffer.getvalue()


def runner(blob: bytes, fetch: tuple[int, ...]) -> Callable[[list[Tensor]], list[Tensor]]:
    """Gives a function that runs the program on this machine as a server would: tensors in, fetched tensors out."""
    torch = untyped_torch()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.load(io.BytesIO(blob), map_location="cpu")

    def run(tensors: list[Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            answer = program(*[torch.from_numpy(np.array(tensor.array())) for tensor in tensors])
        values = answer if isinstance(answer, tuple) else (answer,)
        return [Tensor.from_array(to_numpy(values[index])) for index in fetch]

    return run


def depth(program: Any) -> int:
    """Counts the operations on the longest way through the program, loops and branches left out."""
    level: dict[str, int] = {}
    for node in program.inlined_graph.nodes():
        below = max((level.get(value.debugName(), 0) for value in node.inputs()), default=0)
        for value in node.outputs():
            level[value.debugName()] = below + (1 if node.kind().startswith("aten::") else 0)
    return max(level.values(), default=1)
