"""Requests as clients write them: raw bytes in, arguments out, and Redis' own errors for bytes that are no request."""

from __future__ import annotations

import socket
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.requests import (
    ARGUMENT_BYTES,
    MANY_ARGUMENTS,
    MAX_LINE_BYTES,
    MAX_SPLIT_BYTES,
    Limits,
    Request,
    RequestParser,
    encode,
)
from support.servers import Server
from support.streams import cut


def parse(*chunks: bytes, parser: RequestParser | None = None) -> list[Request]:
    """Feed one chunk after another and take all requests after each."""
    parser = parser or RequestParser()
    requests = []
    for chunk in chunks:
        parser.feed(chunk)
        while (request := parser.next()) is not None:
            requests.append(request)
    return requests


def outcome(*chunks: bytes) -> tuple[list[Request], str | None]:
    """Return the requests that were understood, and the error that ended the connection."""
    parser = RequestParser()
    requests: list[Request] = []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (request := parser.next()) is not None:
                requests.append(request)
    except ProtocolError as error:
        return requests, error.text
    return requests, None


# -- arrays of bulk strings -----------------------------------------------------------------------

STREAM = (
    b"*1\r\n$4\r\nPING\r\n"
    b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n"  # a line break inside an argument, an empty argument
    b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n"  # an argument that is a line break
    b"*0\r\n"
    b'set k "v w"\r\n'
    b"\r\n"
    b"*-1\r\n"
    b"*4\r\n$4\r\nMSET\r\n$1\r\n*\r\n$2\r\n$1\r\n$3\r\n\x00\xff\n\r\n"  # arguments that look like headers
)
REQUESTS = [
    [b"PING"],
    [b"SET", b"a\r\nb", b""],
    [b"GET", b"\r\n"],
    [b"set", b"k", b"v w"],
    [b"MSET", b"*", b"$1", b"\x00\xff\n"],
]


def test_a_pipeline_gives_its_requests_in_order():
    assert parse(STREAM) == REQUESTS


def test_where_the_bytes_are_cut_makes_no_difference():
    """The stream is sent in every possible two or three parts, and byte by byte."""
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1):
            assert parse(*cut(STREAM, (first, second))) == REQUESTS, (first, second)
    assert parse(*cut(STREAM, range(1, len(STREAM)))) == REQUESTS


def test_a_request_is_not_given_before_its_last_byte():
    request = encode([b"SET", b"key", b"value"])

    for end in range(len(request)):
        assert parse(request[:end]) == []


@pytest.mark.parametrize("size", [MAX_SPLIT_BYTES - 100, MAX_SPLIT_BYTES + 100, 600_000])
@pytest.mark.parametrize("chunk", [1024, 65536, 1_000_000])
def test_a_large_argument_arrives_in_chunks(size: int, chunk: int):
    blob = bytes(range(256)) * (size // 256)
    stream = encode([b"SET", b"k", blob, b"EX", b"1"]) + encode([b"GET", b"k"])

    requests = parse(*(stream[at : at + chunk] for at in range(0, len(stream), chunk)))

    assert requests == [[b"SET", b"k", blob, b"EX", b"1"], [b"GET", b"k"]]


def test_an_argument_is_not_copied_once_it_has_arrived():
    """A model takes its size once. That it grows in steps adds an eighth."""
    size, part = 2**25, 2**18
    parser = RequestParser()
    tracemalloc.start()
    try:
        parse(b"*1\r\n$%d\r\n" % size, parser=parser)
        for _ in range(size // part):
            parse(bytes(part), parser=parser)
        requests = parse(b"\r\n", parser=parser)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [len(argument) for argument in requests[0]] == [size]
    assert most < 1.2 * size


def test_bytes_may_be_added_before_the_earlier_requests_were_taken():
    parser = RequestParser()
    for chunk in cut(STREAM, range(7, len(STREAM), 7)):
        parser.feed(chunk)

    assert parse(b"", parser=parser) == REQUESTS
    parser = RequestParser()
    parser.feed(encode([b"A"]) + encode([b"B"]))
    assert parser.next() == [b"A"]
    parser.feed(encode([b"C"]))
    assert parse(b"", parser=parser) == [[b"B"], [b"C"]]


def test_forgetting_what_was_handed_out_changes_nothing_that_is_still_to_come():
    large = encode([b"SET", b"k", b"x" * MAX_SPLIT_BYTES])
    for rest in (encode([b"GET", b"k"]), b"PING\r\n", large):
        for at in (0, 1, len(rest) // 2, len(rest)):
            parser = RequestParser()
            first = parse(large, rest[:at], parser=parser)
            parser.forget()

            assert first + parse(rest[at:], parser=parser) == parse(large, rest)


def test_what_was_forgotten_is_kept_by_nobody_but_who_took_it():
    parser = RequestParser()
    (request,) = parse(encode([b"SET", b"k", b"x" * 2**20]), parser=parser)
    holders = sys.getrefcount(request)
    parser.forget()

    assert sys.getrefcount(request) == holders - 1


def test_arguments_that_are_still_to_come_take_no_memory():
    """A header may announce 512 MB, or two thousand million arguments; no memory is set aside for them."""
    parser = RequestParser()

    assert parse(b"*2147483647\r\n$536870912\r\nabc", parser=parser) == []


@pytest.mark.parametrize("odd", [b"*1\rX$4\rXPINGxx", b"*1\r\n$4\r\nPINGxx"])
def test_line_breaks_are_not_looked_at_where_redis_does_not(odd: bytes):
    assert parse(odd + b"*1\r\n$1\r\nA\r\n") == [[b"PING"], [b"A"]]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n", b"$1", b"*1"]), min_size=1), max_size=6),
    st.integers(1, 4),
    st.data(),
)
def test_any_requests_come_back_however_they_are_cut(requests: list[Request], times: int, data: st.DataObject):
    """That includes repeated requests, which are read differently once their layout is known."""
    repeated = [request for request in requests for _ in range(times)]
    stream = b"".join(map(encode, repeated))
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))

    assert parse(*cut(stream, places)) == repeated
    assert raws(*cut(stream, places)) == [encode(request) for request in repeated]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=9) | st.sampled_from([b"\r\n", b"$1", b"*1", b"x" * 70_000]), min_size=1, max_size=5),
    st.integers(MANY_ARGUMENTS // 2, 20 * MANY_ARGUMENTS),
    st.data(),
)
def test_long_requests_come_back_however_they_are_cut(arguments: Request, times: int, data: st.DataObject):
    long = arguments * times
    stream = encode(long) + encode([b"PING"]) + encode(long)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))

    assert parse(*cut(stream, places)) == [long, [b"PING"], long]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [b"$01\r\na\r\n", b"$1\rXaXX", b"$-1\r\n", b"$2\r\na\r\n", b"*1\r\na\r\n", b"\r\n", b"$11\r\n", b"$"]
    ),
    st.integers(0, 3 * MANY_ARGUMENTS),
    st.data(),
)
def test_an_odd_argument_in_a_long_request_is_what_it_is_byte_by_byte(odd: bytes, place: int, data: st.DataObject):
    whole = [b"$1\r\nb\r\n"] * (3 * MANY_ARGUMENTS)
    stream = b"".join((b"*%d\r\n" % (len(whole) + 1), *whole[:place], odd, *whole[place:]))
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))

    assert outcome(*cut(stream, places)) == outcome(*cut(stream, list(range(len(stream)))))


@pytest.mark.parametrize("limit", ["argument", "request"])
def test_a_long_request_meets_the_limits_of_a_short_one(limit: str):
    limits = Limits.wide()
    if limit == "request":
        limits.request_bytes = 10_050 * (ARGUMENT_BYTES + 4)
    parser = RequestParser(limits, max_bulk_bytes=4 if limit == "argument" else 5)
    parser.feed(encode([b"1234"] * 10_000 + [b"12345"] * 99))

    with pytest.raises(ProtocolError, match="invalid bulk length" if limit == "argument" else "see --request-limit"):
        parser.next()


def test_a_request_of_known_lengths_but_other_form_is_read_right():
    """After three requests of one layout comes something else with the same number of bytes."""
    known = encode([b"SET", b"k", b"0123456789"])
    others = [
        [b"SET", b"key", b"01234567"],
        [b"SET", b"k", b"01234", b""],
        [b"GET", b"k" * 17],
        [b"SET", b"k", b"\r\n\r\n$1\r\n\r\n"],
    ]

    for other in others:
        expected = [[b"SET", b"k", b"0123456789"]] * 3 + [other]
        assert parse(known, known, known, encode(other)) == expected
        assert parse(known, known, known + encode(other)) == expected
        for place in range(len(known) + len(encode(other))):
            assert parse(known, known, *cut(known + encode(other), [place])) == expected


# -- raw: the request as it is relayed ------------------------------------------------------------


def raws(*chunks: bytes) -> list[bytes]:
    parser = RequestParser()
    found = []
    for chunk in chunks:
        parser.feed(chunk)
        while parser.next() is not None:
            found.append(parser.raw)
    return found


def test_raw_is_the_request_as_it_came():
    one, two = encode([b"GET", b"k"]), encode([b"SET", b"a\r\n", b"b"])

    for place in range(len(one + two + one)):
        assert raws(*cut(one + two + one, [place])) == [one, two, one]


def test_raw_of_an_inline_request_is_the_usual_form():
    assert raws(b"get 'a b'\n") == [b"*2\r\n$3\r\nget\r\n$3\r\na b\r\n"]


# -- inline requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"PING\n", [b"PING"]),
        (b"  get \t key  \r\n", [b"get", b"key"]),
        (b'set k "two words"\r\n', [b"set", b"k", b"two words"]),
        (b'echo "\\x41\\xff\\n\\r\\t\\b\\a\\"\\\\ \\q \\xzz"\r\n', [b"echo", b'A\xff\n\r\t\b\a"\\ q xzz']),
        (b"echo 'it\\'s \"so\" \\n'\r\n", [b"echo", b'it\'s "so" \\n']),
        (b"set k \"\" ''\r\n", [b"set", b"k", b"", b""]),
        (b'set k pre"fix ed"\r\n', [b"set", b"k", b"prefix ed"]),
        (b"get \xc3\xa9\r\n", [b"get", b"\xc3\xa9"]),
    ],
)
def test_an_inline_request_is_split_into_words(line: bytes, words: list[bytes]):
    assert parse(line) == [words]


@pytest.mark.parametrize(
    "line",
    [b'get "k\r\n', b"get 'k\r\n", b'get "k"x\r\n', b"get 'k'x\r\n", b'get k"\r\n', b'get "\\"\r\n', b"get 'a\\'\n"],
)
def test_quotes_that_are_not_balanced_are_an_error(line: bytes):
    assert outcome(b"PING\r\n" + line) == ([[b"PING"]], "Protocol error: unbalanced quotes in request")


@pytest.mark.parametrize("nothing", [b"\r\n", b"\n", b"   \r\n", b"*0\r\n", b"*-1\r\n", b"*-12\r\n"])
def test_empty_requests_are_skipped(nothing: bytes):
    assert parse(nothing * 3 + b"PING\r\n" + nothing) == [[b"PING"]]


# -- errors ---------------------------------------------------------------------------------------

MALFORMED = [
    (b"*x\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"*1 \r\n", "invalid multibulk length"),
    (b"*-0\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*99999999999999999999\r\n", "invalid multibulk length"),
    (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
    (b"*1\r\n:1\r\n", "expected '$', got ':'"),
    (b"*1\r\n*1\r\n$1\r\nA\r\n", "expected '$', got '*'"),
    (b"*2\r\n$3\r\nGET\r\n+k\r\n", "expected '$', got '+'"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
    (b"*" + b"1" * 70_000, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
    (b"x" * 70_000, "too big inline request"),
]
MALFORMED_IDS = [(data[:20].decode() if len(data) < 100 else f"{data[:6]!r}...") + text for data, text in MALFORMED]


@pytest.mark.parametrize(("data", "text"), MALFORMED, ids=MALFORMED_IDS)
def test_malformed_bytes_get_redis_error_after_the_requests_before_them(data: bytes, text: str):
    assert outcome(encode([b"PING"]) + data) == ([[b"PING"]], f"Protocol error: {text}")
    assert outcome(data) == ([], f"Protocol error: {text}")


@pytest.mark.parametrize(("data", "text"), MALFORMED, ids=MALFORMED_IDS)
def test_redis_itself_says_the_same(redis_server: Server, data: bytes, text: str):
    with socket.create_connection((redis_server.host, redis_server.port), timeout=10) as connection:
        connection.sendall(encode([b"PING"]) + data)
        answer = b""
        while not answer.endswith(b"\r\n") or answer.count(b"\r\n") < 2:
            got = connection.recv(4096)
            assert got, answer
            answer += got

    assert answer == b"+PONG\r\n-ERR Protocol error: %b\r\n" % text.encode()


@pytest.mark.parametrize("length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 80_000])
@pytest.mark.parametrize("start", [b"", b"*", b"*1\r\n$"], ids=["inline", "count", "length"])
def test_a_long_line_is_taken_or_refused_however_it_is_cut(start: bytes, length: int):
    """Redis itself takes a line that is too long if it arrives at once."""
    data = start + b"0" * length + b"\r\n" if start else b"x" * length + b"\n"
    outcomes = [outcome(data)]
    for place in (1, 100, MAX_LINE_BYTES, len(data) - 2, len(data) - 1):
        outcomes.append(outcome(data[:place], data[place:]))

    assert all(found == outcomes[0] for found in outcomes)


@pytest.mark.parametrize("data", [data for data, _ in MALFORMED if len(data) < 100])
def test_a_malformed_request_is_found_however_it_is_cut(data: bytes):
    whole = outcome(data)

    for place in range(len(data)):
        assert outcome(*cut(data, [place])) == whole


def test_after_an_error_nothing_is_understood_any_more():
    parser = RequestParser()
    parser.feed(b"*1\r\n$x\r\n")
    with pytest.raises(ProtocolError, match="invalid bulk length"):
        parser.next()

    parser.feed(encode([b"PING"]))

    with pytest.raises(ProtocolError, match="invalid bulk length"):
        parser.next()


def test_the_largest_argument_is_a_parameter():
    parser = RequestParser(max_bulk_bytes=10)
    assert parse(encode([b"k" * 10]), parser=parser) == [[b"k" * 10]]

    parser.feed(b"*1\r\n$11\r\n")

    with pytest.raises(ProtocolError, match="invalid bulk length"):
        parser.next()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([0, 3]),
    st.lists(
        st.sampled_from([b"*", b"$", b"\r\n", b"\r", b"\n", b"1", b"2", b"-1", b"0", b"PING", b'"', b"'", b"\\", b" "])
        | st.binary(max_size=5),
        max_size=30,
    ),
)
def test_any_bytes_give_requests_or_a_protocol_error(known: int, chunks: list[bytes]):
    """Fuzz: no other exception than ProtocolError is raised, and it makes no difference how the bytes are cut."""
    before = [encode([b"1"])] * known

    assert outcome(*before, *chunks) == outcome(b"".join(before + chunks))


def test_a_run_of_relayed_requests_is_taken_in_one_piece() -> None:
    """It ends before a name that wasn't given, an argument to avoid, or an incomplete request."""
    get, other, guarded = encode([b"GET", b"k"]), encode([b"PING"]), encode([b"GET", b"model"])
    for rest in (other, guarded, get[:-1], b"*1\r\n$x\r\n", b"GET k\r\n"):
        for repeated in (1, 3):
            parser = RequestParser()
            parser.feed(get * (repeated + 1) + rest)

            assert parser.next() == [b"GET", b"k"]
            assert parser.extend({b"GET"}, {b"model"}, 1000) == repeated
            assert parser.raw == get * (repeated + 1)


def test_a_run_of_equal_layout_is_taken_in_one_piece() -> None:
    """Requests of a known layout are recognized without splitting; their run ends at the same places."""
    parser = RequestParser()
    requests = [encode([b"SET", b"k%d" % i, b"v"]) for i in range(6)]
    for request in requests[:3]:
        parser.feed(request)
        assert parser.next() is not None
    parser.feed(b"".join(requests[3:]) + encode([b"SET", b"mo", b"v"]))

    assert parser.next() == [b"SET", b"k3", b"v"]
    assert parser.extend({b"SET"}, {b"mo"}, 1000) == 2
    assert parser.raw == b"".join(requests[3:])
    assert parser.next() == [b"SET", b"mo", b"v"]
