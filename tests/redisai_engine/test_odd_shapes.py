"""
Shapes that no tensor has, in every command that takes one: each is an answer, and the next request is served.

The shapes are generated from the numbers at which C, NumPy, Redis and the protocol change their minds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DTYPES
from redisai_engine.protocol.tensor import Tensor
from redisai_engine.redis import store
from support.connection import Connection
from support.dumps import float_tensor, string_tensor
from support.gateway import predict, store_model

PONG = b"+PONG\r\n"
Words = tuple[bytes | str | int, ...]

NUMBERS = (
    0,
    1,
    2,
    3,
    255,
    2**16,
    2**29,
    2**31 - 1,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    2**64 + 1,
    -1,
    -(2**63),
)
WORDS = st.one_of(
    st.sampled_from([str(number) for number in NUMBERS]),
    st.sampled_from(["", "x", "1.5", "1e3", "+1", "01", " 1", "1" * 400, "0x10", "nan", "BLOB", "VALUES"]),
)
SHAPES = st.one_of(
    st.lists(WORDS, max_size=5),
    st.integers(0, 70).map(lambda rank: ["1"] * rank),
    st.integers(2, 6).map(lambda rank: [str(2**32)] * rank),
)
DATA: st.SearchStrategy[list[bytes | str]] = st.one_of(
    st.just([]),
    st.binary(max_size=16).map(lambda blob: ["BLOB", blob]),
    st.lists(WORDS, max_size=4).map(lambda values: ["VALUES", *values]),
)
TYPES = st.sampled_from([*(dtype.name for dtype in DTYPES), "COMPLEX"])


def forms(key: str, tensor: Words) -> list[Words]:
    """Every command that takes a tensor's words."""
    sets = ("|>", "AI.TENSORSET", "t", *tensor)
    run = ("|>", "AI.MODELEXECUTE", key, "INPUTS", 2, "t", "t", "OUTPUTS", 1, "y", "|>", "AI.TENSORGET", "y", "VALUES")
    get = ("|>", "AI.TENSORGET", "t", "META")
    return [
        ("AI.TENSORSET", f"{key}:t", *tensor),
        ("AI.DAGEXECUTE_RO", "ROUTING", key, *sets, *get),
        ("AI.DAGEXECUTE_RO", "ROUTING", key, *sets, *run),
        ("AI.DAGEXECUTE", "PERSIST", 1, "t", *sets, *get),
        ("AI.DAGRUN", *sets, *get),
        ("AI.DAGRUN_RO", *sets, *get),
    ]


@pytest.fixture
def served(wire: Connection) -> Connection:
    store_model(wire, "odd:m")
    predict(wire, "odd:m", 1, 2)
    return wire


def check_served(wire: Connection, requests: Sequence[Words]) -> None:
    """Send requests twice: the second time one of the same form may take another path."""
    for request in requests:
        for _ in range(2):
            reply = wire.ask(*request)
            assert reply[:1] in b"-+*$:"
            assert b"engine failed" not in reply, request
    assert wire.ask("PING") == PONG
    assert predict(wire, "odd:m", 2, 3) == 5.0


@settings(deadline=None, max_examples=40)
@given(TYPES, SHAPES, DATA)
@example("FLOAT", ["4294967296", "4294967296"], [])
@example("UINT8", ["536870912"], [])
@example("STRING", ["5000000"], [])
@example("FLOAT", ["1"] * 65, ["BLOB", b"1234"])
def test_any_words_of_a_tensor_are_answered(served: Connection, dtype: str, shape: list[str], data: list[bytes | str]):
    check_served(served, forms("odd:m", (dtype, *shape, *data)))


def test_inside_multi_they_are_too(served: Connection):
    for shape in ("4294967296 4294967296", "-1", " ".join("1" * 65), "536870912", "x"):
        served.send("MULTI", f"AI.TENSORSET odd:t FLOAT {shape}", "SET odd:k v", "EXEC")

        answer = served.replies(4)[-1]

        assert answer.startswith(b"*2\r\n-ERR ")
        assert answer.endswith(b"\r\n+OK\r\n")


LYING = st.lists(st.sampled_from([0, 1, 2, 2**16, 2**31, 2**32, 2**62, 2**63 - 1]), max_size=5)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(DTYPES), LYING, st.binary(max_size=16))
@example(DTYPES[0], [0, 2**62], b"")
@example(DTYPES[0], [2**32, 2**32], b"")
@example(DTYPES[9], [0, 2**63 - 1], b"")
@example(dtypes.STRING, [1, 0, 1], b"no zero byte")
@example(dtypes.STRING, [0], b"no element, but bytes")
@example(dtypes.STRING, [1], b"one\0and a half")
def test_a_key_whose_header_lies_is_answered(served: Connection, dtype, shape: list[int], blob: bytes):
    """Whoever may write strings can write any header. A rank above 32 can't be read, either."""
    value = store.tensor_value(Tensor(dtype, tuple(shape), blob))
    for lie in (value, value[:9] + bytes([40]) + value[10:], value[:12] + struct.pack("<I", 2**32 - 1) + value[16:]):
        served.ask("SET", "odd:lie", lie)

        check_served(
            served,
            [
                ("AI.TENSORGET", "odd:lie", "META"),
                ("AI.TENSORGET", "odd:lie", "VALUES"),
                ("AI.TENSORGET", "odd:lie", "META", "BLOB"),
                ("AI.MODELEXECUTE", "odd:m", "INPUTS", 2, "odd:lie", "odd:lie", "OUTPUTS", 1, "odd:y"),
                ("AI.DAGRUN_RO", "LOAD", 1, "odd:lie", "|>", "AI.TENSORGET", "odd:lie", "VALUES"),
            ],
        )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0, 1, 2, 2**31, 2**32, 2**62, 2**63, 2**64 - 1]), max_size=40), st.binary(max_size=16))
@example([2**63, 0], b"")
@example([2**64 - 1] * 40, b"")
def test_a_dump_whose_shape_lies_is_answered(served: Connection, shape: list[int], blob: bytes):
    check_served(served, [("RESTORE", "odd:dump", 0, float_tensor(tuple(shape), blob), "REPLACE")])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 3), max_size=3), st.binary(max_size=4) | st.lists(st.just(b"a\0"), max_size=9).map(b"".join)
)
@example([0], b"no element, but bytes")
@example([1], b"one\0and a half")
def test_a_dump_of_texts_that_are_not_there_is_answered(served: Connection, shape: list[int], blob: bytes):
    check_served(
        served,
        [
            ("RESTORE", "odd:texts", 0, string_tensor(tuple(shape), blob), "REPLACE"),
            ("AI.TENSORGET", "odd:texts", "VALUES"),
            ("AI.TENSORGET", "odd:texts", "META", "BLOB"),
        ],
    )
