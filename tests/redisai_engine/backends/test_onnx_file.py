"""What is read from an ONNX model's bytes before anything loads it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper

from redisai_engine.backends.onnx_file import BadFile, read
from redisai_engine.errors import ModelLoadError
from support.execution import load_onnx as load

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
        load(place(elsewhere()).SerializeToString())

    assert refusal.value.wire == (
        "ERR the data of tensor k is in another file, which the engine never reads; "
        "save the model with all its data inside"
    )


def paths_to_tensors(depth: int) -> Iterator[tuple[Any, ...]]:
    """
    Yield the fields that lead from a model to a tensor, by the descriptors of the installed onnx.

    A message may stand in one of its own kind, so a path goes through each kind twice at most.
    """

    def follow(message: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        for field in message.fields:
            kind = field.message_type
            if kind is None or [each.message_type for each in path].count(kind) >= depth:
                continue
            if kind.name == "TensorProto":
                yield (*path, field)
            else:
                yield from follow(kind, (*path, field))

    yield from follow(ModelProto.DESCRIPTOR, ())


def with_tensor(path: Sequence[Any], tensor: TensorProto) -> ModelProto:
    """Return a model with a tensor at a place."""
    model = ModelProto()
    message: Any = model
    for field in path:
        value = getattr(message, field.name)
        message = value.add() if hasattr(value, "add") else value
    message.CopyFrom(tensor)
    return model


def test_no_place_for_a_tensor_is_forgotten() -> None:
    """Wherever onnx' own description of the format has a tensor."""
    paths = list(paths_to_tensors(2))

    missed = [
        ".".join(field.name for field in path)
        for path in paths
        if read(with_tensor(path, elsewhere()).SerializeToString()).external != ["k"]
    ]

    assert len(paths) > 100
    assert missed == []


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + varint(number >> 7)


def around(tensor: bytes) -> bytes:
    """Return a model with an initializer of these bytes."""
    graph = b"\x2a" + varint(len(tensor)) + tensor
    return b"\x08\x08\x3a" + varint(len(graph)) + graph


LOCATION = 14 << 3
PLAIN = elsewhere()
PLAIN.ClearField("data_location")
PLAIN.ClearField("external_data")


@pytest.mark.parametrize("tag", [LOCATION, LOCATION | 1 << 32, LOCATION | 5 << 35, LOCATION | 1 << 63])
@pytest.mark.parametrize("value", [1, 1 | 1 << 32, 1 | 1 << 63, 3])
@pytest.mark.parametrize("behind", [b"", b"\x70\x00"])
def test_what_other_readers_take_for_another_file_is_found(tag: int, value: int, behind: bytes) -> None:
    """Other readers drop the upper bits of numbers, and the last of several values counts."""
    blob = around(PLAIN.SerializeToString() + varint(tag) + varint(value) + behind)

    try:
        found = read(blob).external
    except BadFile:
        return
    assert found == ["k"]


def test_a_list_of_files_is_enough_whatever_the_location_says() -> None:
    tensor = elsewhere()
    tensor.data_location = TensorProto.DEFAULT

    assert read(in_initializer(tensor).SerializeToString()).external == ["k"]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats(width=32)), st.integers(0, 3))
@settings(deadline=None)
def test_an_attribute_s_numbers_hide_nothing(ints: list[int], floats: list[float], place: int) -> None:
    """They are passed over many at a time."""
    parts = [AttributeProto(ints=ints), AttributeProto(floats=floats), AttributeProto(ints=ints[::-1])]
    parts.insert(place, AttributeProto(t=elsewhere()))
    attribute = b"".join(part.SerializeToString() for part in parts)
    node = b"\x2a" + varint(len(attribute)) + attribute
    graph = b"\x0a" + varint(len(node)) + node

    assert read(b"\x3a" + varint(len(graph)) + graph).external == ["k"]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([1 << 40, 1 << 40], "for which the file has too few bytes"),
        ([100], "for which the file has too few bytes"),
        ([-1], "with a negative length"),
        ([-(1 << 40), -(1 << 40)], "with a negative length"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_a_shape_that_its_bytes_can_not_fill_is_refused_before_anything_takes_memory(place, shape, text: str) -> None:
    tensor = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=shape, raw_data=b"1234")

    with pytest.raises(BadFile, match=re.escape(f"tensor k has the shape {shape}, {text}")):
        read(place(tensor).SerializeToString())


@pytest.mark.parametrize("kind", sorted(set(TensorProto.DataType.values()) - {0}))
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_real_tensors_of_every_type_fit_their_shapes(kind: int, count: int) -> None:
    values = [b"x"] * count if kind == TensorProto.STRING else np.zeros(count)
    try:
        tensor = helper.make_tensor("k", kind, [count], values)
    except (TypeError, ValueError, KeyError, NotImplementedError):
        pytest.skip("the installed onnx makes no tensors of this type")

    assert read(in_initializer(tensor).SerializeToString()).external == []


def test_packed_dimensions_count_too() -> None:
    packed = varint(1 << 40) * 2
    tensor = b"\x0a" + varint(len(packed)) + packed + b"\x10\x01\x42\x01k\x4a\x041234"

    with pytest.raises(BadFile, match="tensor k has the shape"):
        read(around(tensor))


def test_sparse_tensors_may_not_hide_a_huge_one() -> None:
    value = helper.make_tensor("k", TensorProto.FLOAT, [1], [1.0])
    place = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    huge = helper.make_sparse_tensor(value, place, [1 << 33])

    with pytest.raises(BadFile, match="its sparse tensors have 8589934592 elements in all"):
        read(helper.make_model(helper.make_graph([], "g", [], [], sparse_initializer=[huge])).SerializeToString())


def calling(levels: int, *, first: str = "Neg") -> bytes:
    """Return a model of functions, each of which calls the one before it twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def call(name: str, x: str, y: str) -> Any:
        return helper.make_node(name, [x], [y], domain="" if name == "Neg" else "own")

    functions = []
    for level in range(levels):
        name = f"F{level - 1}" if level else first
        body = [call(name, "x", "between"), call(name, "between", "y")]
        functions.append(helper.make_function("own", f"F{level}", ["x"], ["y"], body, opsets))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    graph = helper.make_graph([call(f"F{levels - 1}", "x", "y")], "g", [x], [FLOATS])
    model = helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def test_functions_that_stand_for_a_huge_graph_are_refused() -> None:
    """Two thousand levels stand for more nodes than there are atoms."""
    assert read(calling(5)).functions == {("own", f"F{level}") for level in range(5)}
    for levels in (20, 2000):
        with pytest.raises(BadFile, match="its functions stand for more than 20000 nodes"):
            read(calling(levels))


def test_functions_that_call_themselves_are_refused() -> None:
    with pytest.raises(BadFile, match="its functions call themselves"):
        read(calling(3, first="F2"))


def nested(levels: int) -> bytes:
    """Return a model with branches in branches."""
    graph = b"\x12\x01g"
    for _ in range(levels):
        attribute = b"\x0a\x0bthen_branch\xa0\x01\x05" + b"\x32" + varint(len(graph)) + graph
        node = b"\x22\x02If" + b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    return b"\x08\x08\x3a" + varint(len(graph)) + graph


@pytest.mark.parametrize("levels", [1, 50, 2000])
def test_branches_nested_in_any_depth_are_read_and_loading_them_ends_well(levels: int) -> None:
    blob = nested(levels)

    assert {node.type for node in read(blob).inner} <= {"If"}
    with pytest.raises(ModelLoadError):
        load(blob)


def test_groups_nested_in_any_depth_are_refused() -> None:
    """Groups are a kind of field that Protocol Buffers has abandoned, but its readers descend into them."""
    with pytest.raises(BadFile, match="a field has wire type 3, which ONNX doesn't use"):
        read(b"\xfb\x01" * 100_000)


def test_bytes_that_are_no_model_never_reach_the_runtime() -> None:
    with pytest.raises(ModelLoadError) as refusal:
        load(b"not a model")

    assert refusal.value.wire == (
        "ERR the model isn't an ONNX file that the engine can check: a field has wire type 6, which ONNX doesn't use"
    )


def test_the_runtime_s_own_format_is_not_taken_even_if_the_bytes_are_both() -> None:
    """Its mark, four bytes from the start, can stand inside a field that ONNX skips."""
    blob = b"\x3a\x00\x12\x10ORTM" + bytes(12)
    read(blob)

    with pytest.raises(ModelLoadError) as refusal:
        load(blob)

    assert "ORT" not in refusal.value.wire


def test_a_library_of_operators_is_not_loaded(tmp_path: Path) -> None:
    """Nothing in a model can name one; an operator of one is unknown."""
    node = helper.make_node("Evil", [], ["y"], domain="evil", library=str(tmp_path / "evil.so"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [], [FLOATS]), opset_imports=opsets, ir_version=8)
    model.metadata_props.add(key="ort_config", value='{"session_options": {"custom_ops": "evil.so"}}')

    with pytest.raises(ModelLoadError, match=r"evil:Evil\(-1\) is not a registered function/op"):
        load(model.SerializeToString())


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
