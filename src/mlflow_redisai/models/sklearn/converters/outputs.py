"""
The outputs of skl2onnx's graphs: which of them has the answer of each method, and what is still to be done with it.

Sequences and stacked targets become a tensor each, scores lose the column that scikit-learn doesn't have, and
probabilities get their logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.models.sklearn.converters.likelihoods import is_by_likelihood
from redisai_engine.codec.onnx_types import element_type

if TYPE_CHECKING:
    import onnx

#: For each method that pyfunc may call, the output of skl2onnx's graph with its answer. Empty: the first output.
OUTPUT_OF = {
    "predict": "",
    "transform": "",
    "predict_proba": "probabilities",
    "predict_log_proba": "probabilities",
    "decision_function": "probabilities",
}


def arrange_outputs(proto: onnx.ModelProto, estimator: Any, last: Any, function: str, what: str) -> list[str]:
    """
    Reduce the graph's outputs to tensors, in place. Return the names of those that make up pyfunc's answer.

    `estimator` is what was converted, `last` its last step, `function` the method that pyfunc calls, and `what` names
    the model in errors. Raise NotConvertible if the graph lacks one of them.
    """
    names = {**_unpack_sequences(proto), **_unpack_targets(proto, last)}
    wanted = OUTPUT_OF[function]
    if function == "decision_function":
        return [_scores(proto, estimator, what)]
    if not wanted:
        return [proto.graph.output[0].name]
    chosen = names.get(wanted, [wanted])
    present = {item.name for item in proto.graph.output}
    if not present.issuperset(chosen):
        raise NotConvertible(f"the ONNX graph of {what} has no {wanted}, only {', '.join(sorted(present))}")
    if function != "predict_log_proba" or is_by_likelihood(last):
        return chosen
    return [_add_log(proto, name, last) for name in chosen]


def _scores(proto: onnx.ModelProto, estimator: Any, what: str) -> str:
    """Return the name of the output with decision_function's answer: for two classes, the last of two columns."""
    import onnx

    present = {item.name: item for item in proto.graph.output}
    name = "scores" if "scores" in present else "probabilities"
    if name not in present:
        raise NotConvertible(f"the ONNX graph of {what} has no scores, only {', '.join(sorted(present))}")
    if len(getattr(estimator, "classes_", ())) != 2:
        return name
    element = present[name].type.tensor_type.elem_type
    column = onnx.numpy_helper.from_array(np.array([-1]), "decision_column")
    proto.graph.initializer.append(column)
    proto.graph.node.append(onnx.helper.make_node("Gather", [name, column.name], ["decision"], axis=1))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("decision", element, [None, 1]))
    return "decision"


def _unpack_sequences(proto: onnx.ModelProto) -> dict[str, list[str]]:
    """Replace each output that is a sequence by the tensors it is built from. Return the new names by the old one."""
    unpacked: dict[str, list[str]] = {}
    makers = {node.output[0]: node for node in proto.graph.node if node.op_type == "SequenceConstruct"}
    for item in list(proto.graph.output):
        if element_type(item) is not None:
            continue
        graph.drop_output(proto, item.name)
        node = makers.get(item.name)
        if node is not None:
            element = item.type.sequence_type.elem_type.tensor_type.elem_type
            unpacked[item.name] = [
                _add_output(proto, "Identity", source, f"{item.name}_{index}", element)
                for index, source in enumerate(node.input)
            ]
            proto.graph.node.remove(node)
    return unpacked


def _unpack_targets(proto: onnx.ModelProto, last: Any) -> dict[str, list[str]]:
    """
    Replace the probabilities of several targets, which skl2onnx stacks along a first axis, by an output per target.

    Return the new names by the old one; nothing unless a tree or forest has several targets.
    """
    stacked = [item for item in proto.graph.output if item.name == "probabilities"]
    is_tree = hasattr(last, "tree_") or hasattr(last, "estimators_")
    if not stacked or not is_tree or getattr(last, "n_outputs_", 1) < 2:
        return {}
    element = stacked[0].type.tensor_type.elem_type
    graph.drop_output(proto, "probabilities")
    return {
        "probabilities": [
            _add_target(proto, index, len(classes), element) for index, classes in enumerate(last.classes_)
        ]
    }


def _add_target(proto: onnx.ModelProto, index: int, classes: int, element: int) -> str:
    """Add an output for one target. In the stack, a target with fewer classes than the widest is padded with zeros."""
    import onnx

    name = f"probabilities_{index}"
    positions = {"target": np.array(index), "classes": np.arange(classes)}
    for key, value in positions.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, f"{name}_{key}"))
    proto.graph.node.extend(
        [
            onnx.helper.make_node("Gather", ["probabilities", f"{name}_target"], [f"{name}_all"], axis=0),
            onnx.helper.make_node("Gather", [f"{name}_all", f"{name}_classes"], [name], axis=1),
        ]
    )
    proto.graph.output.append(onnx.helper.make_tensor_value_info(name, element, [None, classes]))
    return name


def _add_output(proto: onnx.ModelProto, operator: str, source: str, name: str, element: int) -> str:
    import onnx

    proto.graph.node.append(onnx.helper.make_node(operator, [source], [name]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(name, element, [None, None]))
    return name


def split_columns(proto: onnx.ModelProto, name: str, count: int) -> list[str]:
    """Add an output for each column of the output `name`, in place. Return their names."""
    import onnx

    element = next(item for item in proto.graph.output if item.name == name).type.tensor_type.elem_type
    names = [f"{name}_column_{place}" for place in range(count)]
    for place, each in enumerate(names):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([place]), f"{each}_place"))
        proto.graph.node.append(onnx.helper.make_node("Gather", [name, f"{each}_place"], [each], axis=1))
        proto.graph.output.append(onnx.helper.make_tensor_value_info(each, element, [None, 1]))
    return names


# -- logarithms -----------------------------------------------------------------------------------


def _add_log(proto: onnx.ModelProto, name: str, estimator: Any) -> str:
    """
    Add the logarithm of an output to a graph, in place. Return the new output's name.

    `estimator` gives the probabilities. A linear classifier of two classes computes the first as 1 minus the second,
    which is 0 where the graph's own first probability is small. A linear discriminant analysis takes the smallest
    number of its type for 0.
    """
    import onnx

    element = next(item for item in proto.graph.output if item.name == name).type.tensor_type.elem_type
    source = _complemented(proto, name, element) if _is_complement(estimator) else name
    if type(estimator).__name__ == "LinearDiscriminantAnalysis":
        source = _above_zero(proto, source, element)
    proto.graph.node.append(onnx.helper.make_node("Log", [source], [f"log_{name}"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(f"log_{name}", element, [None, None]))
    return f"log_{name}"


def _is_complement(estimator: Any) -> bool:
    # What chooses a threshold leaves the probabilities to the estimator inside.
    inner = getattr(estimator, "estimator_", estimator)
    return hasattr(inner, "_predict_proba_lr") and len(getattr(inner, "classes_", ())) == 2


def _above_zero(proto: onnx.ModelProto, name: str, element: int) -> str:
    """Add the smallest number of the type to each 0 of a matrix. Return its name."""
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(element)
    for value, end in ((kind.type(0), "zero"), (np.finfo(kind).smallest_normal, "tiny")):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, kind), f"{name}_{end}"))
    proto.graph.node.extend(
        [
            onnx.helper.make_node("Equal", [name, f"{name}_zero"], [f"{name}_is_zero"]),
            onnx.helper.make_node("Where", [f"{name}_is_zero", f"{name}_tiny", name], [f"{name}_above"]),
        ]
    )
    return f"{name}_above"


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
