"""Which ONNX graphs may run in the event loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, defs, helper, load_from_string, numpy_helper

from redisai_engine.backends.onnx_file import read
from redisai_engine.backends.onnx_steady import _STEADY, is_steady, most_rows
from support.execution import load_onnx
from support.tiny_models import onnx_counter, onnx_model

FLOATS = (TensorProto.FLOAT, ("N",))
NUMBERS = (TensorProto.INT64, ("N",))


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def steady(*nodes: Any, constants: tuple[TensorProto, ...] = (), y: Any = FLOATS, **inputs: Any) -> bool:
    """Tell whether a graph of these nodes is steady, with the input `x` and others, and the output `y`."""
    return is_steady(read(onnx_model(nodes, {"x": FLOATS, **inputs}, {"y": y}, initializers=constants)))


def test_only_known_operators_are_listed() -> None:
    assert set(_STEADY) <= {(each.domain, each.name) for each in defs.get_all_schemas_with_history()}


# Their work, or the size of what they make, follows from values; or they contain graphs.
NEVER = """
If Loop Scan SequenceMap ConstantOfShape Expand Tile Range Resize Upsample NonZero Compress Unique EyeLike
NonMaxSuppression StringConcat StringSplit RegexFullMatch SequenceConstruct SplitToSequence ConcatFromSequence
RandomNormal Bernoulli Multinomial AffineGrid CenterCropPad MaxUnpool DFT STFT HannWindow BlackmanWindow
"""


@pytest.mark.parametrize("operator", NEVER.split())
def test_operators_whose_work_depends_on_values_never_are(operator: str) -> None:
    assert defs.has(operator)
    assert ("", operator) not in _STEADY
    assert not steady(helper.make_node(operator, ["x"], ["y"]))


def test_an_operator_of_another_domain_or_of_tomorrow_is_not() -> None:
    assert not steady(helper.make_node("Add", ["x", "x"], ["y"], domain="com.microsoft"))
    assert not steady(helper.make_node("Tomorrow", ["x"], ["y"]))


def test_one_operator_among_many_decides() -> None:
    adds = [helper.make_node("Neg", ["x"], [f"x{i}"]) for i in range(50)]

    assert steady(*adds, helper.make_node("Identity", ["x"], ["y"]))
    assert not steady(*adds, helper.make_node("NonZero", ["x"], ["y"]))


def test_loops_branches_and_functions_are_not() -> None:
    body = helper.make_function(
        *("own", "F", ["a"], ["b"]), [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 16)]
    )
    model = load_from_string(onnx_model([helper.make_node("Neg", ["x"], ["y"])], {"x": FLOATS}, {"y": FLOATS}))
    model.functions.append(body)

    assert not is_steady(read(onnx_counter()))
    assert not is_steady(read(model.SerializeToString()))


# What decides how much there is to do: operator, inputs in order; `k` is the one that has to be fixed.
DECIDING = {
    "Reshape": ["x", "k"],
    "Slice": ["x", "k", "k"],
    "Split": ["x", "k"],
    "Squeeze": ["x", "k"],
    "Unsqueeze": ["x", "k"],
    "Pad": ["x", "k"],
    "TopK": ["x", "k"],
    "ReduceSum": ["x", "k"],
    "OneHot": ["x", "k", "x"],
    "LSTM": ["x", "x", "x", "", "k"],
}


@pytest.mark.parametrize("operator", DECIDING)
def test_shapes_and_counts_have_to_be_fixed(operator: str) -> None:
    node = helper.make_node(operator, DECIDING[operator], ["y"])

    assert steady(node, constants=(numbers("k", 1),))
    assert steady(helper.make_node("Constant", [], ["k"], value=numbers("", 1)), node)
    assert not steady(node, k=NUMBERS)
    assert not steady(helper.make_node("Cast", ["x"], ["k"], to=TensorProto.INT64), node)


def test_what_follows_from_shapes_is_fixed() -> None:
    """As exporters write x.view(x.size(0), -1)."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], axis=0),
        helper.make_node("Concat", ["rows", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]

    assert steady(*nodes, constants=(numbers("zero", 0), numbers("rest", -1)))
    nodes[2] = helper.make_node("Concat", ["rows", "other"], ["wanted"], axis=0)
    assert not steady(*nodes, constants=(numbers("zero", 0),), other=NUMBERS)


def test_a_table_of_all_pairs_is_steady_but_known_by_its_shapes() -> None:
    """A row times a column is one number, a column times a row a table: both of as many elements."""
    assert steady(helper.make_node("MatMul", ["x", "x"], ["y"]))


def test_rows_that_walk_through_trees_are_bounded_by_the_trees() -> None:
    """A tree can be a list: then one row takes a step and another as many as there are nodes."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import RandomForestRegressor

    x, y = load_diabetes(return_X_y=True)
    x = x.astype(np.float32)
    bounds = []
    for trees in (1, 100):
        forest = RandomForestRegressor(trees, random_state=0).fit(x, y)
        blob = to_onnx(forest, x[:1], target_opset={"": 16, "ai.onnx.ml": 3}).SerializeToString()
        nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
        assert is_steady(read(blob))
        assert load_onnx(blob).loop_rows == most_rows(read(blob)) <= 20_000_000 // nodes
        bounds.append(most_rows(read(blob)))

    assert bounds[0] > 50 * bounds[1] > 1000


def test_a_model_that_takes_text_says_so() -> None:
    text = (TensorProto.STRING, ("N",))
    node = [helper.make_node("Identity", ["x"], ["y"])]

    assert load_onnx(onnx_model(node, {"x": text}, {"y": text})).takes_text
    assert not load_onnx(onnx_model(node, {"x": FLOATS}, {"y": FLOATS})).takes_text


def test_the_usual_models_of_scikit_learn_are_steady() -> None:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    unsteady = []
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(5),
        GradientBoostingClassifier(n_estimators=3),
        make_pipeline(StandardScaler(), MLPClassifier((4,), solver="lbfgs", max_iter=5000, random_state=0)),
    ):
        made = to_onnx(model.fit(x, y), x[:1], options={"zipmap": False}, target_opset={"": 16, "ai.onnx.ml": 3})
        if not is_steady(read(made.SerializeToString())):
            unsteady.append((type(model).__name__, [node.op_type for node in made.graph.node]))

    assert unsteady == []
