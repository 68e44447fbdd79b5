"""A layout reads requests by the lengths of their arguments, a template by the content of most of them."""

from __future__ import annotations

from redisai_engine.protocol.layouts import MAX_LAYOUT_ARGUMENTS, Template, layout_of
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


def test_a_template_reads_what_differs_in_the_order_asked_for():
    template = Template([b"SET", b"k1", b"xy", b""], [2, 1])
    data = b"..." + encode([b"SET", b"\r\n", b"12", b""])

    assert template.read(data, 3) == [b"12", b"\r\n"]
    assert template.size == len(data) - 3


def test_a_template_refuses_every_other_request():
    template = Template([b"SET", b"k1", b"v"], [1])
    data = bytearray(encode([b"SET", b"k2", b"v"]))
    start = data.index(b"k2")

    for place in set(range(len(data))) - {start, start + 1}:
        other = data.copy()
        other[place] ^= 1
        assert template.read(bytes(other), 0) is None, place


def test_a_template_waits_for_all_of_a_request():
    template = Template([b"SET", b"k1", b"v"], [1, 2])
    data = encode([b"SET", b"k2", b"w"])

    assert [template.read(data[:size], 0) for size in range(len(data))] == [None] * len(data)
    assert template.read(data + data, len(data)) == [b"k2", b"w"]
