"""The load generator, against a real Redis: it counts what was answered, and accepts no wrong answer."""

from __future__ import annotations

import pytest

from bench import load
from bench.wire import Exchange, http_answer, http_exchange, http_length, redis_exchange, resp_answer, resp_length
from support.servers import Server


def test_every_request_is_answered_and_measured(redis_server: Server) -> None:
    found = load.run(redis_server.port, redis_exchange(["PING"]), connections=5, seconds=0.2)

    assert found.requests >= 5
    assert found.connections == 5
    assert 0 < found.median_ms <= found.p99_ms <= found.worst_ms
    assert found.per_second == pytest.approx(found.requests / found.seconds, rel=0.01)


def test_an_answer_that_differs_from_the_first_one_ends_the_measurement(redis_server: Server) -> None:
    """INCR answers another number each time: a server that is fast and wrong must not pass."""
    redis_server.client().set("bench-counter", 10)

    with pytest.raises(ValueError, match=r"the answer differs from the first one: b':1\d\\r\\n'"):
        load.run(redis_server.port, redis_exchange(["INCR", "bench-counter"]), connections=1, seconds=0.2)


def test_an_error_reply_ends_the_measurement(redis_server: Server) -> None:
    with pytest.raises(ValueError, match="unknown command"):
        load.run(redis_server.port, redis_exchange(["AI.NONE"]), connections=1, seconds=0.2)


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert redis_exchange(["SET", b"k", 12]).request == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n12\r\n"


@pytest.mark.parametrize("reply", [b"+OK\r\n", b"$2\r\nab\r\n", b"$-1\r\n", b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n", b"*0\r\n"])
def test_the_end_of_a_reply_is_found_only_when_all_of_it_is_there(reply: bytes) -> None:
    assert resp_length(reply + b"+next\r\n") == len(reply)
    assert [resp_length(reply[:end]) for end in range(len(reply))] == [None] * len(reply)


def test_an_error_inside_an_array_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such model"):
        resp_answer(b"*2\r\n+OK\r\n-ERR no such model\r\n")


def test_an_http_exchange_is_one_post_and_its_answer_the_body() -> None:
    exchange: Exchange = http_exchange("/invocations", {"inputs": [1]})
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"

    assert exchange.request.endswith(b'Content-Length: 15\r\n\r\n{"inputs": [1]}')
    assert http_length(reply + b"HTTP/1.1") == len(reply)
    assert http_length(reply[:-1]) is None
    assert http_answer(reply) == b"ab"
    with pytest.raises(ValueError, match="500"):
        http_answer(b"HTTP/1.1 500 Oops\r\n\r\n")


def test_a_sequence_is_measured_as_a_whole(redis_server: Server) -> None:
    one = load.in_sequence(redis_server.port, [redis_exchange(["PING"])], 0.2)
    several = load.in_sequence(redis_server.port, [redis_exchange(["PING"])] * 20, 0.2)

    assert several.median_ms > one.median_ms
    assert several.connections == 1


def test_an_error_in_a_sequence_ends_the_measurement(redis_server: Server) -> None:
    with pytest.raises(ValueError, match="unknown command"):
        load.in_sequence(redis_server.port, [redis_exchange(["PING"]), redis_exchange(["AI.NONE"])], 0.2)


def test_replies_of_another_length_are_found_whole(redis_server: Server) -> None:
    """TIME has a microsecond count without leading zeros, so its length changes."""
    exchange = Exchange(redis_exchange(["TIME"]).request, resp_length, lambda reply: reply[:4])

    assert load.run(redis_server.port, exchange, connections=2, seconds=0.2).requests > 2


def test_an_http_body_may_come_in_chunks() -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\na\r\n0123456789\r\n0\r\n\r\n"

    assert http_length(reply + b"HTTP/1.1") == len(reply)
    assert [http_length(reply[:end]) for end in range(len(reply))] == [None] * len(reply)
    assert http_answer(reply) == b"ab0123456789"
