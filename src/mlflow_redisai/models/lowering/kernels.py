"""
ONNX graphs for an old ONNX Runtime: nodes that it has no kernel for get another form, or are refused.

Each form keeps the answer. Sums and selections of narrow integers are computed in wider ones. The float64 functions
that an old ONNX Runtime lacks are made of float64 functions that it has. Nothing is computed in float32 instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.lowering.forms import FORMS, WrittenForm
from mlflow_redisai.models.lowering.inference import inferred_graph
from mlflow_redisai.server.kernels import COMPLETE, Kernels, Version

if TYPE_CHECKING:
    import onnx

# ONNX's names of types, by the name of a tensor or of a type parameter.
Types = dict[str, str]


def fit_kernels(model: onnx.ModelProto, runtime: Version | None, what: str) -> None:
    """
    Rewrite, in place, the nodes for which that version of ONNX Runtime has no kernel.

    Raise NotConvertible, naming node and type, if one can't be rewritten.
    """
    if runtime is None or runtime >= COMPLETE:
        return
    kernels = Kernels(runtime)
    opsets = {item.domain: item.version for item in model.opset_import}
    # Forms are made of operators that may need another form themselves, so that there are a few rounds.
    for _ in range(3):
        if not _Round(kernels, opsets, what, refuse=False).rewrite(model):
            return
    _Round(kernels, opsets, what, refuse=True).rewrite(model)


class _Round:
    """One pass over a graph, with the types of all its tensors."""

    def __init__(self, kernels: Kernels, opsets: dict[str, int], what: str, *, refuse: bool) -> None:
        self._kernels = kernels
        self._opsets = opsets
        self._what = what
        self._refuse = refuse

    def rewrite(self, model: onnx.ModelProto) -> bool:
        """Rewrite nodes, in place. Return whether there were any."""
        return self._graph(model.graph, inferred_graph(model), {})

    def _graph(self, graph: onnx.GraphProto, inferred: onnx.GraphProto, outer: Types) -> bool:
        types = {**outer, **_types(inferred)}
        changed = False
        nodes: list[onnx.NodeProto] = []
        for node, known in zip(graph.node, inferred.node, strict=True):
            for attribute, seen in zip(node.attribute, known.attribute, strict=True):
                if attribute.HasField("g"):
                    changed |= self._graph(attribute.g, seen.g, types)
            form = self._form(node, types)
            if form is not None:
                form.write()
                graph.initializer.extend(form.constants)
            nodes += [node] if form is None else form.nodes
            changed |= form is not None
        if changed:
            # The nodes belong to the field that is emptied next.
            copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
        return changed

    def _form(self, node: onnx.NodeProto, types: Types) -> WrittenForm | None:
        """Return another form for a node without a kernel, None for all others."""
        import onnx

        opset = self._opsets.get(node.domain, 0)
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        except onnx.defs.SchemaError:
            return None
        operator = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        bound = _bound(node, schema, types)
        lacking = self._kernels.lacking(operator, schema.since_version, bound)
        if lacking is None:
            return None
        parameter, taken = lacking
        form = FORMS.get(node.op_type) if not node.domain and not self._refuse else None
        made = None if form is None else form(node, bound, opset, taken)
        if made is None:
            raise self._refusal(node, bound[parameter], taken)
        return made

    def _refusal(self, node: onnx.NodeProto, kind: str, taken: frozenset[str]) -> NotConvertible:
        major, minor = self._kernels.version
        name = f" {node.name!r}" if node.name else ""
        return NotConvertible(
            f"{self._what} has the node {node.op_type}{name} of {_shown(kind)}, for which the server's ONNX Runtime "
            f"{major}.{minor} has no kernel; it has those of {', '.join(sorted(map(_shown, taken)))}"
        )


def _shown(kind: str) -> str:
    return {"float": "float32", "double": "float64"}.get(kind, kind)


def _types(graph: onnx.GraphProto) -> Types:
    import onnx

    names = onnx.TensorProto.DataType
    found = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.value_info, *graph.output)}
    found |= {item.name: item.data_type for item in graph.initializer}
    return {name: names.Name(kind).lower() for name, kind in found.items() if kind}


def _bound(node: onnx.NodeProto, schema: onnx.defs.OpSchema, types: Types) -> Types:
    """Return the types by type parameter, as far as they are known."""
    return {
        formal.type_str: types[name]
        for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs))
        for name, formal in _paired(names, formals)
        if name in types and not formal.type_str.startswith("tensor(")
    }


def _paired(names: Sequence[str], formals: Sequence[onnx.defs.OpSchema.FormalParameter]) -> Iterator[tuple[str, Any]]:
    """Yield each tensor with its formal parameter. The last parameter may stand for many tensors."""
    for position, name in enumerate(names):
        yield name, formals[min(position, len(formals) - 1)]
