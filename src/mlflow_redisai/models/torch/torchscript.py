"""
Torch modules → TorchScript programs: the format of RedisAI's backend TORCH, and the source of ONNX exports.

There are several ways to make a program: tracing, scripting, and torch.export. `export` runs the results to find out
which one is right. Every program takes tensors by position and returns a tensor or a tuple of tensors.
"""

from __future__ import annotations

import contextlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.torch.call import ModuleCall, flat_module, to_numpy, untyped_torch
from mlflow_redisai.models.torch.pt2 import bounds, to_script
from mlflow_redisai.models.torch.watch import described
from redisai_engine.codec.values import Array
from redisai_engine.protocol.tensor import Tensor

# The most numbers of an input beyond a bound. Larger ones aren't tried.
_MOST_NUMBERS = 2**24

# Bytes: where torch places entries, and what is before the content of an entry without its name. The head of an extra
# field is a mark, here torch's for padding, and a length.
_ALIGNMENT, _LOCAL_HEADER, _PADDING = 64, 30, b"FB\0\0"


@dataclass(frozen=True)
class Source:
    """
    A module to convert. `program` is the torch.export program that it came from, or None.

    `reads` are the lines of its Python code that read the numbers in its tensors.
    """

    call: ModuleCall
    structure: Structure
    program: Any = None
    reads: tuple[str, ...] = ()


class DoubtfulTrace(NotConvertible):
    """A trace would keep what the example's numbers led to."""


def programs(source: Source, arrays: Sequence[Array]) -> Iterator[Callable[[], Any]]:
    """
    Yield functions that each make a program in one way, best first.

    They raise NotConvertible if theirs doesn't work, and so may this function. `arrays` are an example of the inputs.
    """
    call, structure = source.call, source.structure
    if source.program is not None:
        yield lambda: _of_program(source.program, call, structure, arrays)
        yield lambda: _proved_trace(source, arrays)
    # A trace keeps a ScriptModule as it is, including its branches.
    elif isinstance(call.module, untyped_torch().jit.ScriptModule):
        yield lambda: _trace(call.module, call, structure, arrays)[0]
    else:
        yield from _of_module(source, arrays)


def _of_module(source: Source, arrays: Sequence[Array]) -> Iterator[Callable[[], Any]]:
    """
    Yield ways for a plain module. A trace comes first, since other software handles it best.

    It comes last if torch warns: about lengths, which trials with others find out. A module that reads numbers is never
    traced.
    """
    call, structure = source.call, source.structure

    def scripted() -> Any:
        return _trace(_script(call.module, untyped_torch().jit.script, call.what), call, structure, arrays)[0]

    def exported() -> Any:
        whole = replace(call, keywords=None, casts=(None,) * len(call.casts))
        program = _export(call, structure, arrays)
        return _beyond_bounds(_of_program(program, whole, structure, arrays), program, source, arrays)

    # A trace would hold only what the example's numbers led to. Trials may miss the numbers that lead elsewhere.
    if source.reads:
        yield from (scripted, exported, lambda: _doubted(_numbers(source)))
        return
    traced, doubt = _trace(call.module, call, structure, arrays)
    if doubt is None:
        yield from (lambda: traced, exported, scripted)
        return

    def tried() -> Any:
        try:
            program = _export(call, structure, arrays)
        except NotConvertible:
            return traced
        return _beyond_bounds(traced, program, source, arrays)

    yield from (exported, scripted, tried, lambda: _doubted(_lengths(source, doubt)))


def _doubted(problem: DoubtfulTrace) -> NoReturn:
    """Raise the problem after all ways have failed: it says more than the failures themselves."""
    raise problem


def _numbers(source: Source) -> DoubtfulTrace:
    return DoubtfulTrace(
        f"{source.call.what} works on its tensors' numbers in Python ({source.reads[0]}), and a "
        "conversion would keep what the input example's numbers led to; use torch's operators there, such as "
        "torch.where, or log torch.jit.script(module)"
    )


def _lengths(source: Source, line: str) -> DoubtfulTrace:
    return DoubtfulTrace(
        f"{source.call.what} works on the lengths of its tensors in Python ({line}), and a conversion would keep "
        "those of the input example; use torch's operators there, or log torch.jit.script(module)"
    )


def _beyond_bounds(script: Any, program: Any, source: Source, arrays: Sequence[Array]) -> Any:
    """
    Return the script if it does what the module does for lengths beyond those that torch.export's program holds for.

    Raise DoubtfulTrace if it doesn't: the module has a branch on that length.
    """
    for index, axis, length in bounds(program):
        item = source.call.inputs[index]
        if arrays[index].size // max(1, arrays[index].shape[axis]) * length > _MOST_NUMBERS:
            continue
        longer = [
            np.take(array, np.arange(length + 1) % array.shape[axis], axis)
            if position == index or (axis == 0 and source.call.inputs[position].shape)
            else array
            for position, array in enumerate(arrays)
        ]
        if not _same_answer(script, source, longer):
            raise DoubtfulTrace(
                f"{source.call.what} computes in another way if axis {axis} of {item.name!r} is longer than {length}, "
                "and a conversion would keep one way; log torch.jit.script(module)"
            )
    return script


def _same_answer(script: Any, source: Source, arrays: Sequence[Array]) -> bool:
    torch = untyped_torch()

    try:
        expected = source.call.run(arrays, source.structure)
    except Exception:
        expected = None
    try:
        with torch.no_grad():
            answer = script(*[torch.from_numpy(np.array(array)) for array in arrays])
    except Exception:
        return expected is None
    values = answer if isinstance(answer, tuple) else (answer,)
    return expected is not None and all(
        one.shape == tuple(other.shape) and np.allclose(one, to_numpy(other), 1e-3, 1e-5, equal_nan=True)
        for one, other in zip(expected, values, strict=True)
    )


def _proved_trace(source: Source, arrays: Sequence[Array]) -> Any:
    """Trace, but raise DoubtfulTrace if the module reads numbers."""
    if source.reads:
        raise _numbers(source)
    return _trace(source.call.module, source.call, source.structure, arrays)[0]


def _of_program(program: Any, call: ModuleCall, structure: Structure, arrays: Sequence[Array]) -> Any:
    """Script a torch.export program. It returns its outputs as a flat tuple, also if the module returns a dict."""
    plain = Structure("tensor" if len(structure.names) == 1 else "list", structure.names)
    script = _script(program, to_script, call.what)
    return _trace(script, replace(call, keywords=None), plain, arrays)[0]


def _export(call: ModuleCall, structure: Structure, arrays: Sequence[Array]) -> Any:
    """Export a module as a torch.export program. Every length that the inputs leave open stays open."""
    torch = untyped_torch()
    tensors = tuple(torch.from_numpy(np.array(array)) for array in arrays)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            free = torch.export.Dim.AUTO
            axes = [
                {axis: free for axis, length in enumerate(item.shape or ()) if length is None} for item in call.inputs
            ]
            whole = flat_module(call.module, call, structure)
            program = torch.export.export(whole, tensors, dynamic_shapes=(tuple(axes),))
    # AttributeError before torch 2.6, and anything that the module's own code raises when it gets symbolic lengths.
    except Exception as error:
        raise NotConvertible(
            f"{call.what} can't be exported by torch, which can't follow its code (torch: {first_line(error)})"
        ) from error
    return program


def _script(module: Any, script: Callable[[Any], Any], what: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return script(module)
    except Exception as error:
        raise NotConvertible(
            f"{what} can't be scripted by torch, which can't follow its code (torch: {first_line(error)})"
        ) from error


def _trace(module: Any, call: ModuleCall, structure: Structure, arrays: Sequence[Array]) -> tuple[Any, str | None]:
    """Return the traced program, and the line of which torch warns that it may hold only for the example, or None."""
    torch = untyped_torch()

    tensors = tuple(torch.from_numpy(np.array(array)) for array in arrays)
    try:
        with warnings.catch_warnings(record=True) as told, torch.no_grad(), _plain_attention(torch):
            warnings.simplefilter("always")
            traced = torch.jit.trace(flat_module(module, call, structure), tensors, check_trace=False, strict=False)
    except Exception as error:
        raise NotConvertible(
            f"{call.what} can't be traced by torch, because it fails for its own input (torch: {first_line(error)})"
        ) from error
    doubts = [described(one.filename, one.lineno) for one in told if issubclass(one.category, torch.jit.TracerWarning)]
    return traced, next(iter(doubts), None)


@contextlib.contextmanager
def _plain_attention(torch: Any) -> Iterator[None]:
    """Turn off the fast path of attention layers, which uses an operator that only torch has."""
    attention = torch.backends.mha
    before = attention.get_fastpath_enabled()
    attention.set_fastpath_enabled(False)
    try:
        yield
    finally:
        attention.set_fastpath_enabled(before)


# -- blobs ----------------------------------------------------------------------------------------


def to_blob(program: Any) -> bytes:
    """
    Return the program's bytes in the format of RedisAI's backend TORCH, without what only debuggers read.

    An older libtorch can't read these entries, and ends the server's process if it refuses the program and wants to say
    where in the source it failed.
    """
    torch = untyped_torch()

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(program, buffer)
    return _without_debug_entries(buffer)


def _without_debug_entries(archive: io.BytesIO) -> bytes:
    """Return an archive without its `*.debug_pkl`. Torch wants entries uncompressed, and tensors at multiples of 64."""
    kept = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                copy = zipfile.ZipInfo(entry.filename)
                begins = kept.tell() + _LOCAL_HEADER + len(entry.filename.encode()) + len(_PADDING)
                copy.extra = _padding(-begins % _ALIGNMENT)
                target.writestr(copy, source.read(entry))
    return kept.getvalue()


def _padding(length: int) -> bytes:
    """Return an extra field of the kind that torch uses, with `length` bytes of content."""
    return _PADDING[:2] + length.to_bytes(2, "little") + bytes(length)


def runner(blob: bytes, fetch: tuple[int, ...]) -> Callable[[list[Tensor]], list[Tensor]]:
    """Return a function that runs a blob on this machine as a server would: tensors in, fetched tensors out."""
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
    """Return the number of operations on the longest path, at least 1. The bodies of loops and branches don't count."""
    level: dict[str, int] = {}
    for node in program.inlined_graph.nodes():
        below = max((level.get(value.debugName(), 0) for value in node.inputs()), default=0)
        for value in node.outputs():
            level[value.debugName()] = below + (1 if node.kind().startswith("aten::") else 0)
    return max(level.values(), default=1)
