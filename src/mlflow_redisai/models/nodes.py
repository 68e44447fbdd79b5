"""Nodes and constants of an ONNX graph that our own code writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


@dataclass
class Nodes:
    """Nodes and constants of a graph under construction. `prefix` makes their names unique within a larger graph."""

    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node with one output. Return the output's name."""
        import onnx

        output = name or f"{self.prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def cast(self, source: str, dtype: Any, name: str = "") -> str:
        import onnx

        return self.add("Cast", source, name=name, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def constant(self, value: Any) -> str:
        import onnx

        array = np.asarray(value)
        name = f"{self.prefix}constant_{len(self.constants)}"
        plain = array.astype(object) if array.dtype.kind == "U" else array
        self.constants.append(onnx.numpy_helper.from_array(plain, name))
        return name
