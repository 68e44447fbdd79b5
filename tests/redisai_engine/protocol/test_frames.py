"""Replies as Redis writes them: where each one ends, however the stream is cut, and what each one contains."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.frames import PUSH, FrameScanner, ReplyError, decode, elements
from support.streams import cut

# Every type of RESP2 and RESP3, null, empty and nested ones, and line breaks inside bulk strings.
REPLIES = [
    b"+OK\r\n",
    b"+\r\n",
    b"-ERR no\r\n",
    b":-12\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$7\r\na\r\n\nb\r\n\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n:1\r\n*2\r\n$1\r\n+\r\n*0\r\n+x\r\n",
    b"*1\r\n*1\r\n*1\r\n*1\r\n$-1\r\n",
    b"_\r\n",
    b",3.25\r\n",
    b",inf\r\n",
    b"#t\r\n",
    b"(12345678901234567890\r\n",
    b"!5\r\nERR x\r\n",
    b"=7\r\ntxt:a\nb\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
    b"%0\r\n",
    b"~2\r\n+a\r\n+b\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
    b"|1\r\n+ttl\r\n*2\r\n:1\r\n:2\r\n$1\r\nx\r\n",  # an attribute and the reply that it belongs to
    b"|0\r\n>1\r\n+x\r\n",
    b"*2\r\n|1\r\n+k\r\n+v\r\n:1\r\n:2\r\n",  # an attribute of an element
]
STREAM = b"".join(REPLIES)


def kind_of(reply: bytes) -> str:
    """Return the type that a reply shows: an attribute has the type of the reply after it."""
    return {b"|1\r\n+t": "$", b"|0\r\n>1": ">"}.get(reply[:6], reply[:1].decode())


def replies(*chunks: bytes) -> list[tuple[str, bytes]]:
    """Return type and bytes of each complete reply in these chunks, as the scanner divides them."""
    scanner = FrameScanner()
    found = []
    reply = b""
    for chunk in chunks:
        start = 0
        for kind, end in scanner.scan(chunk):
            found.append((chr(kind), reply + chunk[start:end]))
            reply = b""
            start = end
        reply += chunk[start:]
        assert scanner.at_boundary == (not reply)
    return found


EXPECTED = [(kind_of(reply), reply) for reply in REPLIES]


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_of_any_type_ends_at_its_last_byte(reply: bytes):
    assert replies(reply) == [(kind_of(reply), reply)]
    assert replies(reply[:-1]) == []


def test_a_run_of_replies_is_divided():
    assert replies(STREAM) == EXPECTED


def test_where_the_stream_is_cut_makes_no_difference():
    for place in range(len(STREAM)):
        assert replies(*cut(STREAM, [place])) == EXPECTED
    for step in (1, 2, 3, 5):
        assert replies(*cut(STREAM, range(step, len(STREAM), step))) == EXPECTED


def test_a_large_bulk_passes_without_being_held():
    """100 MB pass chunk by chunk; the scanner only reports where they end."""
    scanner = FrameScanner()
    chunk = b"\r\n" * 32768
    chunks = 100 * 1024 * 1024 // len(chunk)

    assert scanner.scan(b"$%d\r\n" % (chunks * len(chunk))) == []
    for _ in range(chunks):
        assert scanner.scan(chunk) == []
    assert not scanner.at_boundary
    assert scanner.scan(b"\r\n+OK\r\n") == [(ord("$"), 2), (ord("+"), 7)]
    assert scanner.at_boundary


def test_a_push_among_replies_is_told_by_its_type():
    stream = b"+OK\r\n>2\r\n+invalidate\r\n*1\r\n+k\r\n+OK\r\n"

    assert [kind == PUSH for kind, _ in FrameScanner().scan(stream)] == [False, True, False]


@pytest.mark.parametrize("stream", [b"HTTP/1.1 200 OK\r\n", b"\r\n", b"$x\r\n", b"*\r\n", b"$\r\n", b"%1x\r\n"])
def test_bytes_that_are_no_reply_are_an_error(stream: bytes):
    with pytest.raises(ProtocolError, match="Redis sent bytes that are not a reply"):
        FrameScanner().scan(b"+OK\r\n" + stream)


# -- single replies -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (b"$7\r\na\r\n\nb\r\n\r\n", b"a\r\n\nb\r\n"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"_\r\n", None),
        (b":-12\r\n", -12),
        (b"(12345678901234567890\r\n", 12345678901234567890),
        (b",3.25\r\n", 3.25),
        (b",-inf\r\n", float("-inf")),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b"=7\r\ntxt:a\nb\r\n", b"a\nb"),
        (b"-ERR no\r\n", ReplyError("ERR no")),
        (b"!5\r\nERR x\r\n", ReplyError("ERR x")),
        (b"*3\r\n:1\r\n*2\r\n$1\r\n+\r\n*0\r\n-no\r\n", [1, [b"+", []], ReplyError("no")]),
        (b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n", [b"a", 1, b"b", [None]]),
        (b"~2\r\n+a\r\n+b\r\n", [b"a", b"b"]),
        (b">1\r\n+a\r\n", [b"a"]),
    ],
)
def test_a_reply_is_decoded(reply: bytes, value: object):
    assert decode(reply) == value
    assert type(decode(reply)) is type(value)


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        (b"*3\r\n:1\r\n*2\r\n$1\r\n+\r\n*0\r\n$-1\r\n", [b":1\r\n", b"*2\r\n$1\r\n+\r\n*0\r\n", b"$-1\r\n"]),
        (b"%1\r\n+a\r\n*1\r\n_\r\n", [b"+a\r\n", b"*1\r\n_\r\n"]),
        (b"~1\r\n#t\r\n", [b"#t\r\n"]),
        (b">1\r\n#t\r\n", [b"#t\r\n"]),
        (b"*0\r\n", []),
        (b"*-1\r\n", []),
    ],
)
def test_an_array_is_cut_into_elements_as_they_are(reply: bytes, parts: list[bytes]):
    assert elements(reply) == parts


def test_what_is_no_array_has_no_elements():
    with pytest.raises(ProtocolError, match="expected an array, got b'\\+OK"):
        elements(b"+OK\r\n")


# -- any replies ----------------------------------------------------------------------------------

_lines = st.sampled_from([b"+OK\r\n", b"-ERR x\r\n", b":1\r\n", b",1.5\r\n", b"#f\r\n", b"_\r\n", b"(1\r\n"])
_bulks = st.builds(
    lambda mark, data: b"%b%d\r\n%b\r\n" % (mark, len(data), data), st.sampled_from([b"$", b"!"]), st.binary()
)


def _aggregate(mark: bytes, items: list[bytes]) -> bytes:
    count = len(items) // 2 if mark == b"%" else len(items)
    return b"%b%d\r\n%b" % (mark, count, b"".join(items if mark != b"%" else items[: 2 * count]))


_replies = st.recursive(
    _lines | _bulks,
    lambda items: st.builds(_aggregate, st.sampled_from([b"*", b"~", b">", b"%"]), st.lists(items, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_replies, max_size=5), st.data())
def test_any_replies_are_divided_however_they_are_cut(stream: list[bytes], data: st.DataObject):
    whole = b"".join(stream)
    places = data.draw(st.lists(st.integers(0, len(whole)), max_size=6))

    assert [reply for _, reply in replies(*cut(whole, places))] == stream


@settings(max_examples=100, deadline=None)
@given(st.lists(_replies, max_size=5))
def test_elements_are_the_replies_that_an_array_was_made_of(items: list[bytes]):
    assert elements(_aggregate(b"*", items)) == items
    assert decode(_aggregate(b"*", items)) == [decode(item) for item in items]


def test_a_reply_that_is_nested_too_deeply_is_refused():
    """Lua makes such replies: tables in tables."""
    with pytest.raises(ProtocolError, match="nested too deeply"):
        decode(b"*1\r\n" * 10_000 + b":1\r\n")
