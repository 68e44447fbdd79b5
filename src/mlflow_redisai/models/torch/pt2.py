"""
torch.export programs (`pt2`, what MLflow 3 logs by default): their fixed lengths, their example, and their TorchScript.

Tracing a program bakes the example's lengths in: it computes with `sym_size`, which the tracer takes for a constant. So
the program's graph is rewritten to operators that TorchScript has, and scripted; lengths stay what they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow_redisai.models.torch.call import untyped_torch
from redisai_engine.codec.mapping import Shape
from redisai_engine.codec.values import Array

# Operators on lengths that only export's graphs have, and TorchScript's name for them.
_LENGTHS = {"aten::sym_size": "size", "aten::sym_numel": "numel", "aten::sym_stride": "stride"}

# Conditions on lengths that the exporter wrote down: they compute nothing.
_CONDITIONS = ("aten::_assert", "aten::sym_constrain_range", "aten::_check")


def file_of(data: Path) -> Path:
    return data / "model.pt2"


def load(data: Path) -> Any:
    """Read the program. MLflow has loaded the model before, and refused it if its rules about pickle say so."""
    torch = untyped_torch()

    return torch.export.load(str(file_of(data)))


def shapes(program: Any) -> list[Shape]:
    """Return the shape of each input, with None for every length that the program leaves open."""
    wanted = set(program.graph_signature.user_inputs)
    found = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]
    return [tuple(length if type(length) is int else None for length in value.shape) for value in found]


def example(program: Any) -> list[Array] | None:
    """Return the inputs that the program was exported with, None if they weren't kept."""
    kept = program.example_inputs
    if not kept or kept[1]:
        return None
    return [tensor.detach().cpu().numpy() for tensor in kept[0]]


def to_script(program: Any) -> Any:
    """Return a ScriptModule that takes the program's inputs by position and gives a tensor or a tuple, flattened."""
    torch = untyped_torch()

    module = without_guards(program)
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            _rewrite(node)
        elif node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
    _single_output(graph)
    # Plain parameters and a plain tuple instead of pytrees; a fresh module has none of the hooks of the old one.
    graph.set_codegen(torch.fx.graph.CodeGen())
    return torch.jit.script(torch.fx.GraphModule(module, graph)).eval()


def without_guards(program: Any) -> Any:
    """Return the program's module without its checks of what comes in."""
    try:
        return program.module(check_guards=False)
    # The parameter is younger than the method.
    except TypeError:
        return program.module()


def _rewrite(node: Any) -> None:
    """Name the operator as TorchScript does: without overload, which it finds by the arguments."""
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
    """Write unflatten as a view: from the former torch's ONNX exporter can't tell the number of dimensions."""
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
