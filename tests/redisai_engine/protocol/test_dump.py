"""Payloads of RedisAI's DUMP: recorded from a real server and, for older versions, written here in their format."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.protocol.dump import DumpedModel, DumpedScript, DumpError, decode_dump
from redisai_engine.protocol.tensor import Tensor
from support.dumps import length
from support.dumps import module_payload as payload
from support.transcripts import recorded_model, scenarios


def recorded(command: str, scenario: str) -> bytes:
    """Return the payload that a scenario sends with RESTORE, or that the real server returned for DUMP."""
    (step,) = (s for s in scenarios()[scenario].steps if s["send"][0] == command and "nil" not in s["reply"])
    encoded = step["send"][3]["b64"] if command == "RESTORE" else step["reply"]["bulk_b64"]
    return base64.b64decode(encoded)


# -- from a real server ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "scenario", "dtype", "shape", "values"),
    [
        ("RESTORE", "tensor/rdb_restore_float", "FLOAT", (2, 2), [1, 2, 3, 4.5]),
        ("RESTORE", "tensor/rdb_restore_string", "STRING", (2,), ["ab", "c"]),
        ("DUMP", "tensor/dump_restore", "FLOAT", (2,), [1, 2]),
    ],
)
def test_a_recorded_tensor(command: str, scenario: str, dtype: str, shape: tuple[int, ...], values: list[object]):
    tensor = decode_dump(recorded(command, scenario))

    assert isinstance(tensor, Tensor)
    assert (tensor.dtype.name, tensor.shape) == (dtype, shape)
    assert tensor.array().ravel().tolist() == values


@pytest.mark.parametrize(
    ("command", "scenario", "tag", "sizes"),
    [("RESTORE", "model/rdb_restore_model", "tg", (4, 2)), ("DUMP", "model/dump_model", "", (0, 0))],
)
def test_a_recorded_model(command: str, scenario: str, tag: str, sizes: tuple[int, int]):
    """Its blob was compressed by Redis."""
    model = decode_dump(recorded(command, scenario))

    blob = recorded_model("mul.onnx")
    assert model == DumpedModel("ONNX", "CPU", tag, *sizes, 0, ("a", "b"), ("product",), blob)


# -- written here ---------------------------------------------------------------------------------


ONES = b"\x00\x00\x80?" * 6
MODEL = DumpedModel("TORCH", "GPU:1", "v1", 8, 2, 0, ("x", "y"), ("z",), b"weights")
TIMED = DumpedModel("TORCH", "GPU:1", "v1", 8, 2, 50, ("x", "y"), ("z",), b"weights")
NAMES = (2, b"x\0", b"y\0", 1, b"z\0")


@pytest.mark.parametrize("encoding", [0, 1, 2, 3])
def test_an_older_tensor_has_device_lanes_strides_and_offset(encoding: int):
    no_device = 2**64 - 1  # written as minus one
    data = payload("AI_TENSOR", encoding, 1, no_device, 32, 2, 1, 2, 2, 3, 3, 1, 0, ONES)

    tensor = decode_dump(data)

    assert isinstance(tensor, Tensor)
    assert tensor.array().tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("code", "bits", "dtype"),
    [
        (0, 8, "INT8"),
        (0, 16, "INT16"),
        (0, 32, "INT32"),
        (0, 64, "INT64"),
        (1, 8, "UINT8"),
        (1, 16, "UINT16"),
        (2, 32, "FLOAT"),
        (2, 64, "DOUBLE"),
        (6, 8, "BOOL"),
    ],
)
def test_a_tensor_of_each_dtype(code: int, bits: int, dtype: str):
    tensor = decode_dump(payload("AI_TENSOR", 4, code, bits, 1, 3, bytes(3 * bits // 8)))

    assert isinstance(tensor, Tensor)
    assert tensor.dtype.name == dtype
    assert tensor.array().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("encoding", "items", "model"),
    [
        (0, (b"v1\0", 8, 2, *NAMES, b"weights"), MODEL),
        (1, (b"v1", 8, 2, *NAMES, 7, 1, b"weights"), MODEL),
        (2, (b"v1", 8, 2, 50, *NAMES, 7, 2, b"weig", b"hts"), TIMED),
        (3, (b"v1", 8, 2, 50, *NAMES, 7, 3, b"wei", b"ghts", b""), TIMED),
        (4, (b"v1", 8, 2, 50, *NAMES, 7, 1, b"weights"), TIMED),
    ],
)
def test_a_model_of_each_encoding(encoding: int, items: tuple[int | bytes, ...], model: DumpedModel):
    assert decode_dump(payload("AI__MODEL", encoding, 2, b"GPU:1\0", *items)) == model


@pytest.mark.parametrize(
    ("encoding", "items", "entry_points"),
    [
        (0, (b"v1\0", b"def f(): pass\0"), ()),
        (1, (b"v1", b"def f(): pass\0"), ()),
        (2, (b"v1", b"def f(): pass\0"), ()),
        (3, (b"v1", b"def f(): pass\0", 2, b"f\0", b"g\0"), ("f", "g")),
        (4, (b"v1", b"def f(): pass\0", 0), ()),
    ],
)
def test_a_script_of_each_encoding(encoding: int, items: tuple[int | bytes, ...], entry_points: tuple[str, ...]):
    script = decode_dump(payload("AI_SCRIPT", encoding, b"CPU\0", *items))

    assert script == DumpedScript("CPU", "v1", "def f(): pass", entry_points)


def test_a_tag_of_digits_is_kept_as_a_number_by_redis():
    tags = {b"\xc0\x07": "7", b"\xc0\xff": "-1", b"\xc1\x39\x30": "12345", b"\xc2\x15\xcd\x5b\x07": "123456789"}

    for written, tag in tags.items():
        data = payload("AI_SCRIPT", 4, b"CPU\0", b"TAG", b"x\0", 0).replace(b"\x03TAG", written)
        assert decode_dump(data) == DumpedScript("CPU", tag, "x", ())


# -- what is not RedisAI's, or damaged ------------------------------------------------------------


@pytest.mark.parametrize("other", [b"", b"\x00\x03abc\x09\x00" + bytes(8), payload("otherType", 4, 1, b"x")])
def test_other_values_are_not_ours(other: bytes):
    assert decode_dump(other) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (payload("AI_TENSOR", 5, 2, 32, 1, 1, b"1234"), "encoding version 5; 0 to 4 are supported"),
        (payload("AI_TENSOR", 4, 5, 64, 1, 1, bytes(8)), "DLPack type 5 with 64 bits"),
        (payload("AI_TENSOR", 4, 2, 32, 1, 2, b"1234"), r"a FLOAT tensor of shape \(2,\) has 4 bytes"),
        (payload("AI_TENSOR", 4, 2, 32, 1, 2, b"123456789"), r"a FLOAT tensor of shape \(2,\) has 9 bytes"),
        (payload("AI_TENSOR", 4, 7, 8, 1, 2, b"one\0", 0, 4), r"a STRING tensor of shape \(2,\) has 4 bytes"),
        (payload("AI_TENSOR", 4, 2, 32, 1, 1, b"1234", 9), "opcode 2 instead of 0"),
        (payload("AI_TENSOR", 4, 2, 32, b"x"), "opcode 5 instead of 2"),
        (payload("AI__MODEL", 4, 9, b"CPU\0"), "backend number 9; 0 to 3 are known"),
        (payload("AI__MODEL", 4, 3, b"CPU\0", b"", 0, 0, 0, 0, 0, 9, 1, b"x"), "declares a blob of 9 bytes but has 1"),
        (payload("AI_SCRIPT", 4, b"CPU\0", b"", b"x\0", 2**40), "is truncated or damaged"),
    ],
)
def test_what_redisai_could_not_restore_is_an_error_that_says_why(data: bytes, text: str):
    with pytest.raises(DumpError, match=text):
        decode_dump(data)


def test_compressed_strings_take_no_more_than_allowed():
    """Each is small enough; together they aren't, which shows before the second is expanded."""
    compressed = b"\x05\xc3" + length(5) + length(11) + b"\x00a\xe0\x01\x00"
    data = payload("AI_SCRIPT", 4, b"CPU\0", b"v1", b"x\0", 1, b"f\0")
    expanding = data.replace(b"\x05" + length(2) + b"v1", compressed).replace(b"\x05" + length(2) + b"x\0", compressed)

    script = decode_dump(expanding, 22)
    assert isinstance(script, DumpedScript)
    assert (script.tag, script.source) == ("a" * 11, "a" * 11)
    with pytest.raises(DumpError, match="expands to 22 bytes or more; at most 21 are allowed"):
        decode_dump(expanding, 21)


def test_too_many_dimensions_are_refused_before_they_are_read():
    with pytest.raises(DumpError, match="a tensor has 1099511627776 dimensions; at most 32"):
        decode_dump(payload("AI_TENSOR", 4, 2, 32, 2**40, 1))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_payload_gives_a_value_or_a_dump_error(data: st.DataObject):
    """Fuzz: bytes are changed or cut anywhere between the module's type and the footer."""
    whole = data.draw(
        st.sampled_from(
            [
                payload("AI_TENSOR", 4, 7, 8, 1, 2, b"a\0b\0", 0, 2),
                payload("AI_TENSOR", 3, 1, 0, 32, 2, 1, 1, 6, 1, 0, ONES),
                payload("AI__MODEL", 4, 2, b"CPU\0", b"v1", 8, 2, 50, *NAMES, 7, 1, b"weights"),
                payload("AI_SCRIPT", 4, b"CPU\0", b"v1", b"x\0", 1, b"f\0"),
            ]
        )
    )
    footer = len(whole) - 10
    start = data.draw(st.integers(10, footer))
    end = data.draw(st.integers(start, footer))
    damaged = whole[:start] + data.draw(st.binary(max_size=6)) + whole[end:]

    value = outcome(damaged)

    assert value is not None


def outcome(data: bytes) -> Any:
    try:
        return decode_dump(data)
    except DumpError as error:
        return str(error)
