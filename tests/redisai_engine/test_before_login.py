"""Before a client has logged in, the engine takes no more of it than Redis does: ten arguments of 16 KB."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psutil
import pytest

from redisai_engine.protocol.requests import MAX_BULK_BYTES_BEFORE_LOGIN, MAX_SPLIT_BYTES
from support.connection import Connect, Connection, encoded
from support.gateway import Pair
from support.servers import start_engine, start_redis

OK, PONG = b"+OK\r\n", b"+PONG\r\n"
NOAUTH = b"-NOAUTH Authentication required.\r\n"
TOO_MANY = b"-ERR Protocol error: unauthenticated multibulk length\r\n"
TOO_LONG = b"-ERR Protocol error: unauthenticated bulk length\r\n"
LARGE = b"x" * (MAX_SPLIT_BYTES + 1)  # so large that the request is read step by step
MIB = 2**20


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine in front of a Redis that asks for a password, with a user that has one."""
    redis = start_redis(tmp_path_factory.mktemp("behind"), "--requirepass", "secret")
    url = f"redis://:secret@{redis.host}:{redis.port}"
    engine = start_engine(tmp_path_factory.mktemp("front"), "--redis", url)
    yield Pair(engine, redis)
    engine.stop()
    redis.stop()


def memory_of(pair: Pair) -> int:
    return int(psutil.Process(pair.engine.process.pid).memory_info().rss)


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (encoded(("SET", "k", LARGE)), TOO_LONG),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (MAX_BULK_BYTES_BEFORE_LOGIN + 1), TOO_LONG),
        (encoded(("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", LARGE)), TOO_LONG),
        (b"*11\r\n$3\r\nDEL\r\n", TOO_MANY),
        (b"*1000000\r\n$3\r\nDEL\r\n", TOO_MANY),
        (b"*2147483647\r\n", TOO_MANY),
        (b"*4\r\n$12\r\nAI.TENSORSET\r\n$1\r\nx\r\n$4\r\nINT8\r\n$536870912\r\n", TOO_LONG),
    ],
)
def test_a_large_request_is_refused_as_by_redis(locked: Pair, connect: Connect, request_: bytes, refusal: bytes):
    """What came before it is answered. The connection closes at the header, before the bytes that it announces."""
    answers = []
    for server in (locked.redis, locked.engine):
        wire = connect(server)
        wire.send("PING", request_)
        answers.append(b"".join(until_closed(wire)))

    assert answers[0] == answers[1] == NOAUTH + refusal


@pytest.mark.parametrize("count", [10, 11, 500])
def test_a_small_request_gets_redis_own_answer(locked: Pair, connect: Connect, count: int):
    wires = [connect(server) for server in (locked.redis, locked.engine)]
    for wire in wires:
        wire.send(("DEL", *range(count - 1)))

    assert len({wire.reply() for wire in wires}) == 1


LOGINS: dict[str, list[bytes | str | tuple[bytes | str | int, ...]]] = {
    "AUTH": ["AUTH secret"],
    "AUTH with a name": ["AUTH default secret"],
    "HELLO": ["HELLO 3 AUTH default secret"],
    "later": ["GET k", "AUTH wrong", "AUTH secret"],
}


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("large", [("SET", "k", LARGE), ("DEL", *range(20_000))], ids=["bulk", "arguments"])
def test_after_a_login_large_requests_are_taken(locked: Pair, connect: Connect, login: str, large: tuple[bytes]):
    """In the same pipeline, too."""
    wire = connect(locked.engine)

    wire.send(*LOGINS[login], large, "PING")

    assert wire.replies(len(LOGINS[login]) + 2)[-1] == PONG


def test_after_reset_they_are_refused_again(locked: Pair, connect: Connect):
    wire = connect(locked.engine)
    wire.send("AUTH secret", ("SET", "k", LARGE), "RESET", ("SET", "k", LARGE))

    assert b"".join(until_closed(wire)) == OK + OK + b"+RESET\r\n" + TOO_LONG


def test_a_transaction_shows_the_login(pair: Pair, connect: Connect):
    """Inside MULTI, Redis can't be asked: it would queue the question."""
    wire = connect(pair.engine)
    wire.send("MULTI", ("SET", "login:k", LARGE), "STRLEN login:k", "EXEC")

    assert wire.replies(4)[-1] == b"*2\r\n+OK\r\n:%d\r\n" % len(LARGE)


@pytest.mark.parametrize("introduction", [(), ("HELLO 2",), ("HELLO 3", "CLIENT SETNAME someone")])
def test_where_no_login_is_needed_the_first_request_may_be_large(
    pair: Pair, connect: Connect, introduction: tuple[str, ...]
):
    wire = connect(pair.engine)

    wire.send(*introduction, ("SET", "login:k", LARGE))

    assert wire.replies(len(introduction) + 1)[-1] == OK


def test_who_says_hello_costs_no_question(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair()
    wire, direct = connect(pair.engine), connect(pair.redis)
    direct.ask("CONFIG RESETSTAT")

    wire.send("HELLO 2", ("SET", "k", LARGE))
    wire.replies(2)

    assert b"cmdstat_ping" not in direct.ask("INFO commandstats")


def test_a_user_without_ping_is_not_taken_for_a_stranger(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair()
    assert connect(pair.redis).ask("ACL SETUSER default -ping") == OK

    assert connect(pair.engine).ask("SET", "k", LARGE) == OK


def test_many_strangers_hold_little(locked: Pair, connect: Connect):
    """Each sends until it is refused, or until the engine takes no more."""
    wires = [connect(locked.engine) for _ in range(20)]
    before = memory_of(locked)
    chunk = b"*8\r\n" + b"$16000\r\n%b\r\n" % (b"x" * 16_000) * 8
    for wire in wires:
        wire.socket.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(500):
                wire.socket.sendall(chunk)

    assert memory_of(locked) - before < 20 * 4 * MIB


def until_closed(wire: Connection) -> Iterator[bytes]:
    """Yield replies up to the end of the connection, which may come as a reset: bytes that it sent were not read."""
    with contextlib.suppress(ConnectionResetError, AssertionError):
        while True:
            yield wire.reply()
