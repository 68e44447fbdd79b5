"""
Changes to skl2onnx's graphs that let them run in float64 throughout.

- The tree ensembles of histogram gradient boosting get their float64 thresholds back, which ai.onnx.ml 3 can store.
- Sigmoid, which ONNX Runtime computes in float64 with the relative error of float32, becomes its formula.
- The column of ones among polynomial features becomes float64.
- Outputs that are declared as float32 but computed in float64 are declared as float64.

The exact numbers come from the estimators, because the graph's attributes hold them rounded to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from redisai_engine.codec.values import Array

if TYPE_CHECKING:
    import onnx

# The first version of ai.onnx.ml in which tree ensembles can store their numbers as float64.
_DOUBLE_TREES = 3


def to_float64(proto: onnx.ModelProto, estimators: Iterable[Any]) -> None:
    """
    Change a graph that computes in float64, in place, so that all of it does.

    `estimators` are the fitted ones that the graph was made from.
    """
    fitted = list(estimators)
    _widen_ones(proto)
    _widen_trees(proto, [_thresholds(one) for one in fitted if hasattr(one, "_predictors")])
    _declare_real_output_types(proto)
    _rewrite_sigmoids(proto)


# -- polynomial features --------------------------------------------------------------------------


def _widen_ones(proto: onnx.ModelProto) -> None:
    """Make the column of ones float64 like the polynomial features that it is joined to. Concat takes only one type."""
    import onnx

    joined = {name for node in proto.graph.node if node.op_type == "Concat" for name in node.input}
    for node in proto.graph.node:
        if node.op_type == "ConstantOfShape" and node.output[0] in joined:
            value = onnx.numpy_helper.to_array(node.attribute[0].t)
            if value.dtype == np.float32:
                node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float64)))


# -- sigmoids -------------------------------------------------------------------------------------


def _rewrite_sigmoids(proto: onnx.ModelProto) -> None:
    """Write out each Sigmoid of float64. ONNX Runtime's gives 0 from -40 on, where the logarithm is still finite."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto).graph.value_info
    wide = {item.name for item in inferred if item.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE}

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if node.output[0] not in wide:
            return [node]
        stem = node.output[0]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.0), f"{stem}_one"))
        steps = [("Neg", [node.input[0]], "neg"), ("Exp", [f"{stem}_neg"], "exp")]
        steps.append(("Add", [f"{stem}_exp", f"{stem}_one"], "sum"))
        made = [onnx.helper.make_node(kind, names, [f"{stem}_{end}"]) for kind, names, end in steps]
        return [*made, onnx.helper.make_node("Div", [f"{stem}_one", f"{stem}_sum"], [stem])]

    _rewrite(proto, change, "Sigmoid")


# -- trees ----------------------------------------------------------------------------------------


def _thresholds(estimator: Any) -> Array:
    """Return the thresholds of all trees, in the order in which skl2onnx writes them. A leaf has 0."""
    nodes = [predictor.nodes for row in estimator._predictors for predictor in row]
    parts = [np.where(one["is_leaf"], 0.0, one["num_threshold"]) for one in nodes]
    return np.concatenate(parts)


def _widen_trees(proto: onnx.ModelProto, thresholds: list[Array]) -> None:
    widened = []

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        # Trees of the boosting libraries that are float64 have another attribute, and are right already.
        if "nodes_values" not in attributes:
            return [node]
        exact = _exact(np.array(attributes["nodes_values"].floats, np.float32), thresholds)
        if not any(exact is one for one in thresholds):
            return [node]
        widened.append(node.name)
        _widen(node, attributes, exact)
        return _with_wide_scores(proto, node)

    _rewrite(proto, change, "TreeEnsembleRegressor", "TreeEnsembleClassifier")
    if widened:
        for imported in proto.opset_import:
            if imported.domain == "ai.onnx.ml":
                imported.version = max(imported.version, _DOUBLE_TREES)


def _widen(node: onnx.NodeProto, attributes: dict[str, Any], thresholds: Array) -> None:
    import onnx

    numbers = {"nodes_values": thresholds}
    for name in ("class_weights", "target_weights", "base_values", "nodes_hitrates"):
        if name in attributes:
            numbers[name] = np.array(attributes[name].floats, np.float64)
    kept = [attribute for attribute in node.attribute if attribute.name not in numbers]
    del node.attribute[:]
    node.attribute.extend(kept)
    for name, values in numbers.items():
        tensor = onnx.numpy_helper.from_array(values, name)
        node.attribute.append(onnx.helper.make_attribute(f"{name}_as_tensor", tensor))


def _with_wide_scores(proto: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Cast the scores, which are float32 for trees of any type, to the float64 of the rest of the graph."""
    import onnx

    scores = node.output[-1]
    for item in proto.graph.output:
        if item.name == scores:
            item.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
            return [node]
    node.output[-1] = f"{scores}_float32"
    return [node, onnx.helper.make_node("Cast", [node.output[-1]], [scores], to=onnx.TensorProto.DOUBLE)]


def _declare_real_output_types(proto: onnx.ModelProto) -> None:
    """Declare outputs with their inferred types. If the first column is text, skl2onnx declares float32 for float64."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for item in bare.graph.output:
        item.ClearField("type")
    inferred = {
        item.name: item.type.tensor_type.elem_type for item in onnx.shape_inference.infer_shapes(bare).graph.output
    }
    for item in proto.graph.output:
        if item.type.HasField("tensor_type") and inferred.get(item.name):
            item.type.tensor_type.elem_type = inferred[item.name]


# -- both -----------------------------------------------------------------------------------------


def _exact(rounded: Array, candidates: list[Array]) -> Array:
    """Return the candidate that equals `rounded` once rounded to float32, or else `rounded` itself as float64."""
    for candidate in candidates:
        if candidate.shape == rounded.shape and np.array_equal(candidate.astype(np.float32), rounded, equal_nan=True):
            return candidate
    return rounded.astype(np.float64)


def _rewrite(proto: onnx.ModelProto, change: Callable[[onnx.NodeProto], list[onnx.NodeProto]], *kinds: str) -> None:
    """Replace each node of these kinds by what `change` makes of it, at the same place: nodes run in their order."""
    made = [new for node in proto.graph.node for new in (change(node) if node.op_type in kinds else [node])]
    # The nodes belong to the field that is emptied next.
    copies = [type(one).FromString(one.SerializeToString()) for one in made]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
