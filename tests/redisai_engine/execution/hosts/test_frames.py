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

from redisai_engine.execution.hosts import frames as frames_module
from redisai_engine.execution.hosts import worker
from redisai_engine.execution.hosts.frames import ALONE, Channel, FrameError, from_value, to_value
from redisai_engine.protocol.frames import ReplyError
from support.yields import count_yields

LONG = 60.0  # seconds that a test never waits
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


def test_one_stays_awake_until_something_arrives(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Channel(ends[0]), Channel(ends[1], awake_seconds=LONG)
    yields = count_yields(monkeypatch, lambda: ours.send(ALONE, [np.arange(3.0)]))

    theirs.stay_awake()

    assert len(yields) == 1
    message, (values,) = theirs.receive()
    assert message is ALONE
    assert values is not None
    assert values.tolist() == [0, 1, 2]


def test_one_sleeps_for_the_rest_of_what_arrives_in_pieces(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = struct.pack("<QI", 9, 9) + b"[null,[]]"
    theirs = Channel(ends[1], awake_seconds=LONG)
    yields = count_yields(monkeypatch, lambda: ends[0].sendall(whole[:5]))

    theirs.stay_awake()
    ends[0].sendall(whole[5:])

    assert len(yields) == 1
    assert theirs.receive() == (None, [])


def test_one_whose_core_others_need_sleeps_for_a_while(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Channel(ends[1], awake_seconds=LONG)
    monkeypatch.setattr(frames_module, "CONTENDED_SECONDS", 0.0)  # whatever a poll takes is long
    monkeypatch.setattr(frames_module, "REST_SECONDS", LONG)
    yields = count_yields(monkeypatch)

    theirs.stay_awake()
    theirs.stay_awake()

    assert len(yields) == 1


def test_one_that_may_not_stay_awake_sleeps(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    yields = count_yields(monkeypatch)

    Channel(ends[1]).stay_awake()

    assert not yields


class CountingChannel(Channel):
    """Counts how often its owner stays awake."""

    stayed = 0

    def stay_awake(self) -> None:
        self.stayed += 1


@pytest.mark.parametrize(
    ("messages", "stayed"),
    [
        pytest.param([ALONE], 0, id="the first run"),
        pytest.param([ALONE, ALONE], 1, id="one that came soon"),
        pytest.param([None, None, None], 0, id="long ones"),
        pytest.param([ALONE, None, ALONE], 1, id="a long one between"),
    ],
)
def test_a_host_stays_awake_behind_short_runs_that_come_soon(
    ends: tuple[socket.socket, socket.socket], messages: list[object], stayed: int
) -> None:
    ours, theirs = Channel(ends[0]), CountingChannel(ends[1], awake_seconds=LONG)
    left = iter(messages)

    def ask(*_: object) -> list[np.ndarray]:
        """Send the next request, or end the channel."""
        try:
            ours.send(next(left))
        except StopIteration:
            ends[0].shutdown(socket.SHUT_WR)
        return []

    ask()
    with pytest.raises(EOFError):
        worker.run_all(theirs, ask)

    assert theirs.stayed == stayed
