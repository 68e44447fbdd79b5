"""Frames between the engine and its hosts: what is sent arrives, and what is no frame is refused."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from redisai_engine.execution.hosts.frames import Channel, FrameError, from_value, to_value
from redisai_engine.protocol.frames import ReplyError

NUMBERS = ("<f4", "<f8", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "?")
VALUES = st.recursive(
    st.none()
    | st.binary()
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.builds(ReplyError, st.text()),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def passed(message: object, values: list[object]) -> tuple[object, list[object]]:
    """Return what arrives at the other end."""
    left, right = socket.socketpair()
    with left, right:
        sender = threading.Thread(target=Channel(left).send, args=(message, values))
        sender.start()
        found = Channel(right).receive(30)
        sender.join()
        return found  # type: ignore[return-value]


@given(
    st.lists(
        st.sampled_from(NUMBERS).flatmap(
            lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))
        ),
        max_size=3,
    )
)
def test_arrays_of_any_shape_arrive_as_they_are(values: list[np.ndarray]) -> None:
    message, found = passed({"a": [1, None]}, values)  # type: ignore[arg-type]

    assert message == {"a": [1, None]}
    assert [(v.dtype, v.shape, v.tobytes()) for v in found] == [(v.dtype, v.shape, v.tobytes()) for v in values]  # type: ignore[attr-defined]


def test_text_missing_arrays_and_arrays_in_pieces_arrive() -> None:
    text = np.array([["a", ""], ["ß\udcff", "long" * 100]], object)
    large = np.arange(1_000_000, dtype="<i8").reshape(1000, 1000).T

    _, found = passed(None, [text, None, large])

    assert found[0].tolist() == text.tolist()  # type: ignore[attr-defined]
    assert found[1] is None
    assert np.array_equal(found[2], large)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<QI", 4, 4) + b"nope",
        struct.pack("<QI", 2, 2) + b"{}",
        struct.pack("<QI", 1 << 60, 4),
        struct.pack("<QI", 15, 15) + b"[null,[[99,1]]]",
        struct.pack("<QI", 16, 16) + b"[null,[[0,[9]]]]",
        struct.pack("<QI", 17, 17) + b"[null,[[0,[-1]]]]",
        struct.pack("<QI", 10, 9) + b"[null,[]]x",
    ],
)
def test_what_is_no_frame_is_refused(raw: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = ends
    left.sendall(raw)

    with pytest.raises(FrameError):
        Channel(right).receive()


def test_the_end_and_a_deadline_are_told_apart(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = ends

    with pytest.raises(TimeoutError):
        Channel(right).receive(0.01)
    left.close()
    with pytest.raises(EOFError):
        Channel(right).receive()


@given(VALUES)
def test_replies_of_redis_survive(value: object) -> None:
    assert to_value(from_value(value)) == value  # type: ignore[arg-type]
