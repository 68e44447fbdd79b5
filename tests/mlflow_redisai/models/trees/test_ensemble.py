"""Handwritten trees in ONNX Runtime: the paths of numbers and gaps, the sums, and the answers made from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.trees.ensemble import Boosted, Mode, Tree, float32_not_above, write


def stump(mode: Mode, threshold: float, *, gap_is_yes: bool) -> Tree:
    """Return a tree of one question, which answers 10 for yes and 20 for no."""
    tree = Tree((0,))

    def add(node: str) -> Any:
        if node == "root":
            return [tree.branch(0, threshold, mode, gap_is_yes=gap_is_yes)], ("yes", "no")
        return [tree.leaf((10.0 if node == "yes" else 20.0,))], None

    return tree.grow("root", add)


def boosted(*trees: Tree, **options: Any) -> Boosted:
    settings = {"base": [0.0], "link": "identity", "reads_float32": False, "sums_float64": True} | options
    return Boosted(names=(), columns=1, trees=trees, **settings)


def answers(model: Boosted, numbers: list[float], ml_opset: int = 3) -> list[Any]:
    """Return ONNX Runtime's answers to a column of numbers, one entry per output."""
    nodes = Nodes()
    names = ("first", "" if model.classes is None else "second")
    write(model, nodes, "x", names, ml_opset)
    kinds: list[tuple[int, list[int | None]]] = [(TensorProto.FLOAT, [None, None])]
    if model.classes is not None:
        kinds = [(TensorProto.INT64, [None]), *kinds]
    outputs = [helper.make_tensor_value_info(name, *kind) for name, kind in zip(names, kinds, strict=False)]
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 1])
    graph = helper.make_graph(nodes.nodes, "test", [x], outputs, nodes.constants)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.squeeze(found).tolist() for found in session.run(None, {"x": np.array(numbers)[:, None]})]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("BRANCH_LT", [10, 20, 20]),
        ("BRANCH_LEQ", [10, 10, 20]),
        ("BRANCH_GT", [20, 20, 10]),
        ("BRANCH_EQ", [20, 10, 20]),
    ],
)
def test_a_number_goes_the_way_of_the_comparison(mode: Mode, expected: list[float]) -> None:
    [found] = answers(boosted(stump(mode, 1.5, gap_is_yes=False)), [1.0, 1.5, 2.0])

    assert found == expected


@pytest.mark.parametrize("gap_is_yes", [True, False])
@pytest.mark.parametrize("mode", ["BRANCH_LT", "BRANCH_LEQ"])
def test_a_gap_goes_its_own_way(mode: Mode, gap_is_yes: bool) -> None:  # noqa: FBT001  # a parameter of the test
    [found] = answers(boosted(stump(mode, 1.5, gap_is_yes=gap_is_yes)), [np.nan, 1.0])

    assert found == [10 if gap_is_yes else 20, 10]


def test_a_set_of_numbers_is_one_comparison_after_another() -> None:
    tree = Tree((0,))

    def add(node: str) -> Any:
        if node == "root":
            return tree.any_of(0, [2, 5, 7], gap_is_yes=False), ("in", "out")
        return [tree.leaf((1.0 if node == "in" else 0.0,))], None

    [found] = answers(boosted(tree.grow("root", add)), [2, 3, 5, 7, 8, np.nan])

    assert found == [1, 0, 1, 1, 0, 0]


def test_a_bound_in_float64_is_compared_in_float64() -> None:
    bound = 1 + 1e-12

    [exact] = answers(boosted(stump("BRANCH_LEQ", bound, gap_is_yes=False)), [1.0, bound, np.nextafter(bound, 2)])

    assert exact == [10, 10, 20]


def test_a_bound_in_float32_never_lets_pass_what_lies_above_it() -> None:
    """1 + 1e-7 lies between two float32 numbers, and nearer to the larger one."""
    bound, above = 1 + 1e-7, float(np.nextafter(np.float32(1), np.float32(2)))
    assert np.float32(bound) == above

    [found] = answers(
        boosted(stump("BRANCH_LEQ", bound, gap_is_yes=False), reads_float32=True, sums_float64=False), [1.0, above]
    )

    assert found == [10, 20]
    assert float32_not_above(np.array([bound, 1.5, -bound])).tolist() == [1.0, 1.5, -above]


def test_trees_are_added_to_the_constant() -> None:
    one, two = (stump("BRANCH_LT", bound, gap_is_yes=False) for bound in (1.0, 2.0))

    [found] = answers(boosted(one, two, base=[0.5]), [0.0, 1.5, 3.0])

    assert found == [20.5, 30.5, 40.5]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("sigmoid", 1 / (1 + np.exp(-2.0))),
        ("exp", np.exp(2.0)),
        ("softplus", np.log1p(np.exp(2.0))),
        ("signed square", 4.0),
        ("step", 1.0),
    ],
)
def test_the_link_makes_the_answer_of_the_sum(link: Any, expected: float) -> None:
    settings = {"reads_float32": True, "sums_float64": False, "weights": np.array([[0.0]])}

    [found] = answers(boosted(base=[2.0], link=link, **settings), [1.0])

    assert found == pytest.approx(expected, rel=1e-6)


def test_two_classes_have_a_label_and_both_probabilities() -> None:
    model = boosted(stump("BRANCH_LT", 1.5, gap_is_yes=False), base=[-15.0], link="sigmoid", classes=np.array([3, 8]))

    label, probabilities = answers(model, [1.0, 2.0])

    assert label == [3, 8]
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, rtol=1e-6)
    assert probabilities[0][0] > 0.99
    assert probabilities[1][0] < 0.01


def test_a_number_may_stand_for_a_gap_and_what_is_near_zero_for_zero() -> None:
    tree = stump("BRANCH_EQ", 0.0, gap_is_yes=True)
    marked = replace(boosted(tree), gap=-9.0)

    assert answers(marked, [-9.0, 1.0, 0.0]) == [[10, 20, 10]]
    assert answers(replace(boosted(tree), zero=1e-35), [1e-36, 1e-30]) == [[10, 20]]
    assert answers(boosted(tree), [1e-36, 1e-30]) == [[20, 20]]


def test_nodes_and_constants_keep_apart_by_their_prefix() -> None:
    one, other = Nodes("one_"), Nodes("other_")
    names = {nodes.add("Add", "x", nodes.constant(np.float32(1))) for nodes in (one, other)}

    assert names == {"one_Add_0", "other_Add_0"}
