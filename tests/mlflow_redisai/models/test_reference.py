"""A reference asks the original, and can't be made of what a converter has made."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlflow_redisai.models import graph
from mlflow_redisai.models.reference import Reference

NODE = helper.make_node("Identity", ["x"], ["y"])
ENDS = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
PROTO = helper.make_model(
    helper.make_graph([NODE], "identity", ENDS[:1], ENDS[1:]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
)


def inside_a_closure(held: Any) -> Any:
    return lambda inputs: (held, inputs)


def inside_a_closure_of_a_closure(held: Any) -> Any:
    inner = inside_a_closure(held)
    return lambda inputs: [inner(inputs)]


def as_an_argument(held: Any) -> Any:
    return partial(lambda owner, inputs: (owner, inputs), held)


@pytest.mark.parametrize("hold", [inside_a_closure, inside_a_closure_of_a_closure, as_an_argument])
@pytest.mark.parametrize("converted", [PROTO, graph.load(PROTO.SerializeToString(), "a test's graph")], ids=type)
def test_what_a_converter_has_made_is_no_reference(hold: Any, converted: Any) -> None:
    with pytest.raises(TypeError, match=f"it asks a {type(converted).__name__}, which a converter has made"):
        Reference("the graph itself", hold(converted))


def test_a_method_of_what_a_converter_has_made_is_none_either() -> None:
    session = graph.load(PROTO.SerializeToString(), "a test's graph")

    with pytest.raises(TypeError, match="it asks a InferenceSession"):
        Reference("the graph itself", session.run)


@pytest.mark.parametrize("hold", [inside_a_closure, inside_a_closure_of_a_closure, as_an_argument])
def test_an_original_is_a_reference(hold: Any) -> None:
    assert Reference("numpy", hold(np.arange(3))).kind == "numpy"


def test_a_function_that_calls_itself_is_a_reference() -> None:
    def answer(inputs: int) -> int:
        return inputs if inputs < 2 else answer(inputs - 1)

    assert Reference("a count", answer).answer(3) == 1
