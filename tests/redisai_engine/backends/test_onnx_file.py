"""What is read from an ONNX model's bytes before anything loads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper

from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.onnx_file import BadFile, read
from redisai_engine.backends.registry import backend
from redisai_engine.errors import ModelLoadError
from support.tiny_models import onnx_counter

FLOATS = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])


def elsewhere(location: str = "weights", name: str = "k") -> TensorProto:
    """Return a tensor whose data is in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse(tensor: TensorProto) -> object:
    indices = helper.make_tensor("indices", TensorProto.INT64, [4], [0, 1, 2, 3])
    return helper.make_sparse_tensor(tensor, indices, [4])


def in_initializer(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Identity", ["k"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [], [FLOATS], [tensor]))


def in_sparse_initializer(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Identity", ["k"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [], [FLOATS], sparse_initializer=[sparse(tensor)]))


def in_attribute(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    return helper.make_model(helper.make_graph([node], "g", [], [FLOATS]))


def in_list_of_tensors(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.append(AttributeProto(name="values", type=AttributeProto.TENSORS, tensors=[tensor]))
    return helper.make_model(helper.make_graph([node], "g", [], [FLOATS]))


def in_sparse_attribute(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Constant", [], ["y"], sparse_value=sparse(tensor))
    return helper.make_model(helper.make_graph([node], "g", [], [FLOATS]))


def in_branch(tensor: TensorProto) -> ModelProto:
    branch = in_attribute(tensor).graph
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    node = helper.make_node("If", ["go"], ["y"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([node], "g", [go], [FLOATS]))


def in_function(tensor: TensorProto) -> ModelProto:
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [helper.make_node("Constant", [], ["y"], value=tensor)]
    function = helper.make_function("own", "F", [], ["y"], body, opset)
    graph = helper.make_graph([helper.make_node("F", [], ["y"], domain="own")], "g", [], [FLOATS])
    return helper.make_model(graph, functions=[function], opset_imports=opset)


PLACES = [
    in_initializer,
    in_sparse_initializer,
    in_attribute,
    in_list_of_tensors,
    in_sparse_attribute,
    in_branch,
    in_function,
]


@pytest.mark.parametrize("place", PLACES)
def test_data_in_another_file_is_found_wherever_a_tensor_can_be(place) -> None:
    assert set(read(place(elsewhere()).SerializeToString()).external) == {"k"}


@pytest.mark.parametrize("place", PLACES)
def test_data_inside_the_model_is_none(place) -> None:
    inside = helper.make_tensor("k", TensorProto.FLOAT, [4], [1, 2, 3, 4])

    assert read(place(inside).SerializeToString()).external == []


@pytest.mark.parametrize("place", PLACES)
def test_the_engine_reads_no_other_file(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one in its working directory."""
    monkeypatch.chdir(tmp_path)
    Path("weights").write_bytes(os.urandom(16))

    with pytest.raises(ModelLoadError) as refusal:
        backend("ONNX").load(
            place(elsewhere()).SerializeToString(), "CPU", inputs=(), outputs=(), settings=BackendSettings()
        )

    assert refusal.value.wire == (
        "ERR the data of tensor k is in another file, which the engine never reads; "
        "save the model with all its data inside"
    )


def test_operators_are_found_in_branches_too() -> None:
    assert read(onnx_counter()).operators >= {"Loop", "Add", "Identity"}


MODEL = in_branch(elsewhere()).SerializeToString()


@given(st.integers(0, len(MODEL)), st.binary(max_size=12))
@example(0, b"\x0b")  # a group, a kind of field that Protocol Buffers has abandoned
@example(0, b"\xff" * 11)
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused(place: int, other: bytes) -> None:
    """No model in which onnx itself finds external data is ever let through."""
    blob = MODEL[:place] + other + MODEL[place + len(other) :]
    try:
        found = read(blob)
    except BadFile:
        return
    try:
        parsed = ModelProto.FromString(blob)
    except Exception:  # protobuf's own, whose class depends on the installed implementation
        return

    tensors = [
        attribute.t
        for branch in (branch.g for node in parsed.graph.node for branch in node.attribute)
        for node in branch.node
        for attribute in node.attribute
    ]
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
        assert found.external
