"""Trees with float64 numbers, rewritten for a server that has only trees with float32 numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.server.limits import ServerLimits

OLD, NEW = ServerLimits(), ServerLimits(ml_opset=3)
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def stumps(modes: list[str], columns: int, seed: int = 1) -> onnx.ModelProto:
    """
    Return trees of one comparison each, for every column and mode, whose leaves tell apart every outcome.

    Some trees send gaps one way and some the other.
    """
    random = np.random.default_rng(seed)
    count = columns * len(modes)
    thresholds = np.repeat(np.exp(random.normal(size=count) * 9) * random.choice([-1, 1], count), 3)
    thresholds[:3] = 0
    attributes: dict[str, Any] = {
        "nodes_treeids": np.repeat(np.arange(count), 3).tolist(),
        "nodes_nodeids": [0, 1, 2] * count,
        "nodes_featureids": [part for index in range(count) for part in (index % columns, 0, 0)],
        "nodes_modes": [part for index in range(count) for part in (modes[index // columns], "LEAF", "LEAF")],
        "nodes_truenodeids": [1, 0, 0] * count,
        "nodes_falsenodeids": [2, 0, 0] * count,
        "nodes_missing_value_tracks_true": [part for index in range(count) for part in (index % 2, 0, 0)],
        "target_treeids": np.repeat(np.arange(count), 2).tolist(),
        "target_nodeids": [1, 2] * count,
        "target_ids": np.repeat(np.arange(count), 2).tolist(),
        "n_targets": count,
    }
    numbers = {"nodes_values": thresholds, "target_weights": np.tile([1.0, 2.0], count)}
    tensors = {f"{name}_as_tensor": numpy_helper.from_array(values, name) for name, values in numbers.items()}
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes, **tensors)
    made = helper.make_graph(
        [node],
        "stumps",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, count])],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def around(model: onnx.ModelProto, columns: int) -> np.ndarray:
    """Return rows with every threshold, the float64 below and above it, and numbers of every other kind."""
    known = numpy_helper.to_array(next(item.t for item in model.graph.node[0].attribute if "nodes_values" in item.name))
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, 5e-324, 2.0**24 + 1, 2.0**53 + 1]
    values = np.concatenate([known, np.nextafter(known, np.inf), np.nextafter(known, -np.inf), special])
    return np.repeat(values[:, None], columns, axis=1)


def answers(model: onnx.ModelProto, limits: ServerLimits, rows: np.ndarray) -> np.ndarray:
    answer: np.ndarray = graph.load(graph.finish(model, limits, "the test"), "the test").run(None, {"x": rows})[0]
    return answer


@pytest.mark.parametrize("modes", [MODES, ["BRANCH_LEQ"]], ids=["all modes", "one mode"])
@pytest.mark.parametrize("columns", [1, 3, 80])
def test_every_comparison_keeps_its_outcome(modes: list[str], columns: int) -> None:
    model = stumps(modes, columns)
    rows = around(model, columns)

    np.testing.assert_array_equal(answers(model, OLD, rows), answers(model, NEW, rows))


def test_many_thresholds_of_one_column() -> None:
    model = stumps(["BRANCH_LEQ"] * 300, 1)
    rows = around(model, 1)

    np.testing.assert_array_equal(answers(model, OLD, rows), answers(model, NEW, rows))


def test_the_server_has_kernels_for_what_is_left() -> None:
    lowered = onnx.load_from_string(graph.finish(stumps(MODES, 3), OLD, "the test"))

    assert {item.domain: item.version for item in lowered.opset_import} == {"": 15, "ai.onnx.ml": 2}
    [trees] = [node for node in lowered.graph.node if node.domain]
    assert not [item.name for item in trees.attribute if item.name.endswith("_as_tensor")]


def test_trees_of_a_version_that_is_too_new_are_told() -> None:
    """ai.onnx.ml 5 has one operator for all trees."""
    model = stumps(MODES, 3)
    model.graph.node[0].op_type = "TreeEnsemble"
    model.opset_import[1].version = 5

    with pytest.raises(NotConvertible, match=r"the test uses TreeEnsemble of ai.onnx.ml opset 5, but the server's"):
        graph.lower_versions(model, OLD, "the test")
