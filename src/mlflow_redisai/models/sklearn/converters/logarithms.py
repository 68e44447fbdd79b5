"""Logarithms of probabilities, as predict_log_proba gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def add_log(proto: onnx.ModelProto, name: str, estimator: Any) -> str:
    """
    Add the logarithm of an output to a graph, in place. Return the new output's name.

    `estimator` gives the probabilities. A linear classifier of two classes computes the first as 1 minus the second,
    which is 0 where the graph's own first probability is small.
    """
    import onnx

    element = next(item for item in proto.graph.output if item.name == name).type.tensor_type.elem_type
    source = _complemented(proto, name, element) if _is_complement(estimator) else name
    proto.graph.node.append(onnx.helper.make_node("Log", [source], [f"log_{name}"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(f"log_{name}", element, [None, None]))
    return f"log_{name}"


def _is_complement(estimator: Any) -> bool:
    return hasattr(estimator, "_predict_proba_lr") and len(getattr(estimator, "classes_", ())) == 2


def _complemented(proto: onnx.ModelProto, name: str, element: int) -> str:
    """Add a matrix of 1 - p and p, where p is the second column of the matrix `name`. Return its name."""
    import onnx

    one = np.array(1, onnx.helper.tensor_dtype_to_np_dtype(element))
    for value, end in ((one, "one"), (np.array([1]), "second")):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, f"{name}_{end}"))
    proto.graph.node.extend(
        [
            onnx.helper.make_node("Gather", [name, f"{name}_second"], [f"{name}_p"], axis=1),
            onnx.helper.make_node("Sub", [f"{name}_one", f"{name}_p"], [f"{name}_rest"]),
            onnx.helper.make_node("Concat", [f"{name}_rest", f"{name}_p"], [f"{name}_both"], axis=1),
        ]
    )
    return f"{name}_both"
