"""Which models can end the process that runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from redisai_engine.backends import deadly
from support.onnx_faults import integers
from support.tiny_models import onnx_model

INTEGER, FLOAT = TensorProto.INT64, TensorProto.FLOAT
DIVIDES = "its operator Div may divide integers by -1 or 0"
node = helper.make_node
info = helper.make_tensor_value_info

#: A description of 5 MB, which follows the other fields: large models are looked at in another way.
DESCRIPTION = onnx.ModelProto(doc_string=" " * 5_000_000).SerializeToString()


def danger(blob: bytes) -> str:
    """Return the danger of a model, which has the same if it is large."""
    found = deadly.danger(blob)
    assert deadly.danger(blob + DESCRIPTION) == found
    return found


def of(*nodes: Any, kind: int = INTEGER, constants: tuple[Any, ...] = (), **more: int) -> str:
    """Return the danger of a graph with inputs `x` and `z` and the output `y`, of one type, and further inputs."""
    inputs = {name: (each, ("N",)) for name, each in {"x": kind, "z": kind, **more}.items()}
    return danger(onnx_model(nodes, inputs, {"y": (kind, ("N",))}, initializers=constants))


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_a_division_of_integers_by_an_input_is_dangerous(kind: int) -> None:
    assert of(node("Div", ["x", "z"], ["y"]), kind=kind) == DIVIDES


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "INT8", "INT16", "UINT8", "UINT64"])
def test_a_division_of_other_types_is_not(kind: str) -> None:
    assert of(node("Div", ["x", "z"], ["y"]), kind=getattr(TensorProto, kind)) == ""


@pytest.mark.parametrize(("divisors", "expected"), [([2], ""), ([7, -2], ""), ([3, -1], DIVIDES), ([0], DIVIDES)])
@pytest.mark.parametrize("form", ["raw", "one by one", "Constant", "value_ints"])
def test_constants_are_as_dangerous_as_their_values(form: str, divisors: list[int], expected: str) -> None:
    divide = node("Div", ["x", "c"], ["y"])
    tensor = integers("c", *divisors)
    if form == "one by one":
        tensor = helper.make_tensor("c", INTEGER, [len(divisors)], divisors)
    constant = [node("Constant", [], ["c"], value=tensor)]
    if form == "value_ints":
        constant = [node("Constant", [], ["c"], value_ints=divisors)]

    found = of(*constant, divide) if "onstant" in form or "ints" in form else of(divide, constants=(tensor,))

    assert found == expected


def test_a_constant_may_change_its_shape_on_the_way() -> None:
    nodes = [node("Unsqueeze", ["c", "axis"], ["d"]), node("Div", ["x", "d"], ["y"])]

    assert of(*nodes, constants=(integers("c", 2), integers("axis", 0))) == ""
    assert of(*nodes, constants=(integers("c", -1), integers("axis", 0))) == DIVIDES


@pytest.mark.parametrize(
    "before",
    [
        [node("Cast", ["x"], ["a"], to=FLOAT), node("Cast", ["z"], ["b"], to=FLOAT)],
        [node("Cast", ["x"], ["a0"], to=FLOAT), node("Add", ["a0", "b"], ["a"])],
        [node("Sqrt", ["f"], ["s"]), node("Where", ["o", "s", "a"], ["any"])],
        [node("Concat", ["f", "a"], ["any"], axis=0)],
        [node("ConstantOfShape", ["x"], ["a"])],
    ],
    ids=["Cast", "a sum with one", "a choice", "Concat", "ConstantOfShape"],
)
def test_floats_are_recognized_by_what_they_come_from_and_go_to(before: list[Any]) -> None:
    assert of(*before, node("Div", ["a", "b"], ["q"]), node("Cast", ["q"], ["y"], to=INTEGER), f=FLOAT) == ""


@pytest.mark.parametrize(
    "before",
    [
        [node("Cast", ["f"], ["a"], to=INTEGER)],
        [node("Shape", ["f"], ["a"])],
        [node("ArgMax", ["f"], ["a"])],
        [node("TopK", ["f", "x"], ["values", "a"])],
        [node("Sqrt", ["f"], ["a"], domain="somebody")],
        [node("Tomorrow", ["f"], ["a"])],
    ],
    ids=["Cast", "Shape", "ArgMax", "TopK", "another domain", "unknown"],
)
def test_what_is_an_integer_or_unknown_is_dangerous(before: list[Any]) -> None:
    assert of(*before, node("Div", ["a", "b"], ["y"]), f=FLOAT) == DIVIDES


def branches(*inner: Any) -> Any:
    """Return a node whose branches have these nodes, and return `q`."""
    graph = helper.make_graph(list(inner), "inner", [], [info("q", INTEGER, ["N"])])
    return node("If", ["o"], ["y"], then_branch=graph, else_branch=graph)


def test_branches_are_looked_into() -> None:
    assert of(branches(node("Div", ["x", "z"], ["q"])), o=TensorProto.BOOL) == DIVIDES
    assert of(branches(node("Identity", ["x"], ["q"])), o=TensorProto.BOOL) == ""


def test_a_name_that_is_given_twice_says_nothing() -> None:
    """In another branch, it may be another value."""
    inner = branches(node("Constant", [], ["c"], value_int=2), node("Div", ["x", "c"], ["q"]))

    assert of(inner, o=TensorProto.BOOL) == DIVIDES


def with_function(name: str, *body: Any) -> bytes:
    """Return a model that calls its own function of two inputs, in ONNX' own domain."""
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("", name, ["a", "b"], ["c"], list(body), opsets)
    inputs, outputs = [info(each, INTEGER, ["N"]) for each in "xz"], [info("y", INTEGER, ["N"])]
    nodes = [node(name, ["x", "z"], ["s"]), node("Div", ["x", "s"], ["y"])]
    graph = helper.make_graph(nodes, "calls", inputs, outputs)
    return bytes(helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8).SerializeToString())


def test_a_function_with_the_name_of_an_operator_is_not_that_operator() -> None:
    assert danger(with_function("Sqrt", node("Add", ["a", "b"], ["c"]))) == DIVIDES


def test_functions_are_looked_into() -> None:
    assert danger(with_function("Sqrt", node("Div", ["a", "b"], ["c"]))) == DIVIDES


def test_two_values_of_one_name_are_none() -> None:
    """ONNX Runtime takes one of them."""
    constants = (integers("c", 2), integers("c", -1))

    assert of(node("Div", ["x", "c"], ["y"]), constants=constants) == DIVIDES


@pytest.mark.parametrize("operator", ["ReverseSequence", "RoiAlign", "DFT", "STFT"])
def test_operators_that_are_dangerous_whatever_they_get(operator: str) -> None:
    assert of(node(operator, ["x", "z"], ["y"]), kind=FLOAT) == f"it has an operator {operator}"


def test_onnx_runtime_refuses_a_type_that_is_declared_wrongly() -> None:
    """So what is declared can be believed."""
    graph = helper.make_graph(
        [node("Div", ["x", "z"], ["q"]), node("Cast", ["q"], ["y"], to=INTEGER)],
        "lies",
        [info("x", INTEGER, ["N"]), info("z", INTEGER, ["N"])],
        [info("y", INTEGER, ["N"])],
        value_info=[info("q", FLOAT, ["N"])],
    )
    blob = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()

    assert danger(blob) == ""
    with pytest.raises(Exception, match="Type Error"):
        onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])


def test_onnx_runtime_refuses_inputs_of_two_types() -> None:
    """So one of them tells the other."""
    constant = numpy_helper.from_array(np.array([1.0], np.float32), "c")
    blob = onnx_model(
        [node("Div", ["x", "c"], ["y"])], {"x": (INTEGER, ["N"])}, {"y": (INTEGER, ["N"])}, initializers=[constant]
    )

    assert danger(blob) == ""
    with pytest.raises(Exception, match=r"Type parameter \(T\)"):
        onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
