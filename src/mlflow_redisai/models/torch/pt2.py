"""
torch.export programs (`pt2`, MLflow 3's default): their shapes, their example, and their TorchScript.

Tracing a program would fix the example's lengths, because the tracer takes the program's `sym_size` for a constant. So
the program's graph is rewritten with operators that TorchScript has, and scripted. Open lengths stay open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow_redisai.models.torch.call import untyped_torch
from redisai_engine.codec.mapping import Shape
from redisai_engine.codec.values import Array

# Operators on lengths that only exported graphs have, and TorchScript's names for them.
_LENGTHS = {"aten::sym_size": "size", "aten::sym_numel": "numel", "aten::sym_stride": "stride"}

# Operators with which the exporter records conditions on lengths. They compute nothing.
_CONDITIONS = ("aten::_assert", "aten::sym_constrain_range", "aten::_check")


# torch.export has a largest length of its own.
_UNBOUNDED = 2**31


def file_of(data: Path) -> Path:
    return data / "model.pt2"


def load(data: Path) -> Any:
    """Load the program. MLflow has already loaded the model, so its own rules on unsafe files have been applied."""
    torch = untyped_torch()

    return torch.export.load(str(file_of(data)))


def shapes(program: Any) -> list[Shape]:
    """Return the shape of each input, with None for every length that the program leaves open."""
    wanted = set(program.graph_signature.user_inputs)
    found = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]
    return [tuple(length if type(length) is int else None for length in value.shape) for value in found]


def example(program: Any) -> list[Array] | None:
    """Return the inputs that the program was exported with, or None if it kept none, or some by keyword."""
    kept = program.example_inputs
    if not kept or kept[1]:
        return None
    return [tensor.detach().cpu().numpy() for tensor in kept[0]]


def bounds(program: Any) -> list[tuple[int, int, int]]:
    """
    Return the greatest lengths that a program holds for, as (input, axis, length): none for those without a bound.

    torch.export follows a branch on a length with the example's, and remembers for which others it would be the same.
    """
    wanted = set(program.graph_signature.user_inputs)
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]
    found = []
    for index, value in enumerate(inputs):
        for axis, length in enumerate(value.shape):
            known = None if type(length) is int else program.range_constraints.get(length.node.expr)
            if known is not None and known.upper < _UNBOUNDED:
                found.append((index, axis, int(known.upper)))
    return found


def to_script(program: Any) -> Any:
    """Return a ScriptModule that takes the program's inputs by position and returns a tensor or a flat tuple."""
    torch = untyped_torch()

    module = without_guards(program)
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            _rewrite(node)
        elif node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
    _single_output(graph)
    # Use plain parameters and a plain tuple instead of pytrees. A new module has none of the old one's hooks.
    graph.set_codegen(torch.fx.graph.CodeGen())
    return torch.jit.script(torch.fx.GraphModule(module, graph)).eval()


def without_guards(program: Any) -> Any:
    """Return the program's module without the guards that check its inputs."""
    try:
        return program.module(check_guards=False)
    # Older versions of torch lack the parameter.
    except TypeError:
        return program.module()


def _rewrite(node: Any) -> None:
    """Replace a node's operator, in place, by TorchScript's: without overload, which TorchScript resolves itself."""
    torch = untyped_torch()

    name = node.target._schema.name
    if name.startswith(_CONDITIONS):
        node.graph.erase_node(node)
    elif name == "aten::unflatten":
        _as_view(node)
    elif name in _LENGTHS:
        node.target = getattr(torch.ops.aten, _LENGTHS[name])
    else:
        node.target = node.target.overloadpacket


def _as_view(node: Any) -> None:
    """Rewrite unflatten, in place, as a view: for unflatten, torch's ONNX exporter loses the number of dimensions."""
    aten = untyped_torch().ops.aten
    tensor, dim, sizes = node.args
    rank = tensor.meta["val"].ndim
    with node.graph.inserting_before(node):
        lengths = [node.graph.call_function(aten.size, (tensor, axis)) for axis in range(rank)]
    node.target, node.args = aten.view, (tensor, [*lengths[: dim % rank], *sizes, *lengths[dim % rank + 1 :]])


def _single_output(graph: Any) -> None:
    output = next(node for node in graph.nodes if node.op == "output")
    values = output.args[0]
    if isinstance(values, (list, tuple)) and len(values) == 1:
        output.args = (values[0],)
