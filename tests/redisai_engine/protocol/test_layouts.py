"""A layout reads requests whose arguments have the known lengths, and no others."""

from __future__ import annotations

from redisai_engine.protocol.layouts import MAX_LAYOUT_ARGUMENTS, layout_of
from redisai_engine.protocol.requests import encode


def test_a_layout_reads_requests_of_the_same_lengths():
    layout = layout_of([b"SET", b"k1", b""])
    data = b"..." + encode([b"GET", b"\r\n", b""])

    assert layout is not None
    assert layout.read(data, 3) == [b"GET", b"\r\n", b""]
    assert layout.size == len(data) - 3


def test_a_layout_refuses_every_other_request():
    layout = layout_of([b"SET", b"k1"])
    data = bytearray(encode([b"SET", b"k1"]))
    content = {8, 9, 10, 17, 18}

    assert layout is not None
    for place in set(range(len(data))) - content:
        other = data.copy()
        other[place] ^= 1
        assert layout.read(bytes(other), 0) is None, place


def test_a_layout_is_made_once_for_all_clients():
    assert layout_of([b"GET", b"a"]) is layout_of([b"SET", b"b"])


def test_requests_with_many_arguments_have_none():
    assert layout_of([b""] * MAX_LAYOUT_ARGUMENTS) is not None
    assert layout_of([b""] * (MAX_LAYOUT_ARGUMENTS + 1)) is None
