"""
Plain commands in any order: through the engine they get, byte for byte, the replies that Redis itself sends.

Hypothesis makes up sequences of commands (with transactions, subscriptions, reply modes, protocol switches, several
databases and errors) and decides where their bytes are cut in transit. Each sequence goes to a plain Redis and, through
the engine, to another Redis of the same version. Both are emptied first.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redisai_engine.protocol.requests import encode
from support.servers import Server, start_engine, start_redis
from support.streams import cut

pytestmark = pytest.mark.slow

# Leaves every state that a connection can be in, and marks the end of the replies. PING is for CLIENT REPLY SKIP.
END = encode([b"PING"]) + encode([b"RESET"]) + encode([b"ECHO", b"the end"])
END_REPLY = b"+RESET\r\n$7\r\nthe end\r\n"

TIMEOUT_S = 5.0

# HELLO's reply may differ in the connection's id, and in the module `ai` that the engine adds to those of the server.
_CONNECTION_NUMBER = re.compile(rb"(\$2\r\nid\r\n):\d+\r\n")
_MODULES = re.compile(rb"(\$7\r\nmodules\r\n)\*\d\r\n(?:[*%]\d\r\n\$4\r\nname\r\n.*?args\r\n\*\d\r\n)*", re.DOTALL)

keys = st.sampled_from(["a", "b", "c"])
values = st.sampled_from([b"1", b"-5", b"x", b"", b"two words", b"\r\n", b"\x00\xff", b"3.25", b"v" * 300])
channels = st.sampled_from(["news", "n*"])


def command(*parts: str | st.SearchStrategy[str] | st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for one command, encoded as a client sends it; its words are fixed or drawn."""
    drawn = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(*drawn).map(lambda words: encode([w.encode() if isinstance(w, str) else w for w in words]))


strings = [
    command("SET", keys, values),
    command("SET", keys, values, "GET"),
    command("GET", keys),
    command("get", keys),
    command("INCR", keys),
    command("INCRBYFLOAT", keys, "0.5"),
    command("APPEND", keys, values),
    command("GETRANGE", keys, "0", "2"),
    command("MGET", keys, keys, keys),
    command("MSET", keys, values, keys, values),
]
collections = [
    command("RPUSH", keys, values, values),
    command("LRANGE", keys, "0", "-1"),
    command("BLPOP", keys, keys, "0.001"),
    command("HSET", keys, "f", values),
    command("HGETALL", keys),
    command("SADD", keys, values),
    command("SISMEMBER", keys, values),
    command("ZADD", keys, "1.5", values),
    command("ZRANGE", keys, "0", "-1", "WITHSCORES"),
    command("XADD", keys, "1-1", "f", values),
    command("XRANGE", keys, "-", "+"),
]
keyspace = [
    command("DEL", keys, keys),
    command("EXISTS", keys),
    command("TYPE", keys),
    command("RENAME", keys, keys),
    command("COPY", keys, keys),
    command("COPY", keys, keys, "REPLACE"),
    command("EXPIRE", keys, "1000"),
    command("PERSIST", keys),
    command("OBJECT", "ENCODING", keys),
    command("DBSIZE"),
    command("DUMP", keys),
    command("SWAPDB", "0", "1"),
    command("FLUSHDB"),
]
connection = [
    command("PING"),
    command("PING", values),
    command("ECHO", values),
    command("SELECT", st.sampled_from(["0", "1", "99", "x"])),
    command("HELLO", st.sampled_from(["2", "3", "4"])),
    command("CLIENT", "REPLY", st.sampled_from(["ON", "OFF", "SKIP", "MAYBE"])),
    command("CLIENT", "SETNAME", "n"),
    command("CLIENT", "GETNAME"),
    command("RESET"),
    command("AUTH", "wrong"),
]
transactions = [
    command("MULTI"),
    command("EXEC"),
    command("DISCARD"),
    command("WATCH", keys),
    command("UNWATCH"),
]
subscriptions = [
    command("SUBSCRIBE", channels, channels),
    command("PSUBSCRIBE", channels),
    command("UNSUBSCRIBE", channels),  # for all channels at once, the order would be that of a hash table
    command("PUNSUBSCRIBE", channels),
    command("PUBLISH", channels, values),
    command("PUBSUB", "NUMSUB", channels),
]
scripts = [
    command("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", keys, values),
    command("EVAL", "return {1, 'two', {3}, false}", "0"),
    command("EVAL", "return redis.error_reply('ERR of mine')", "0"),
]
mistakes = [
    command("GET"),
    command("SET", keys),
    command("NOSUCHCOMMAND", values),
    command("SET", keys, values, "NOPE"),
    command("INFO", "nosuchsection"),
    # Redis counts empty requests when it skips a reply, and the engine doesn't: so something else comes before them.
    st.sampled_from([b"PING\r\n*0\r\n*-1\r\n", b"PING\r\n\r\n"]),
]
inline = [st.sampled_from([b"PING\r\n", b"get a\n", b'SET b "in\\x6cine"\r\n', b"  EXISTS  a 'b' \r\n"])]

# Inside a transaction these make Redis send an EXEC reply with more or fewer elements than it announces. No client can
# read such a reply, and the engine can't divide it.
OUT_OF_TRANSACTIONS = re.compile(rb"\*\d+\r\n\$\d+\r\n(CLIENT\r\n\$5\r\nREPLY|P?(UN)?SUBSCRIBE)\r\n")


def without_broken_transactions(commands: list[bytes]) -> list[bytes]:
    """Leave out the commands that must not follow MULTI. EXEC, DISCARD and RESET end the transaction."""
    kept = []
    inside = False
    for each in commands:
        if inside and OUT_OF_TRANSACTIONS.match(each):
            continue
        inside = (inside or b"MULTI" in each) and not any(word in each for word in (b"EXEC", b"DISCARD", b"RESET"))
        kept.append(each)
    return kept


everything = st.one_of(
    *strings, *collections, *keyspace, *connection, *transactions, *subscriptions, *scripts, *mistakes, *inline
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_redis(tmp_path_factory.mktemp("plain"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def through_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine in front of a Redis that was started with the same options as the plain one."""
    upstream = start_redis(tmp_path_factory.mktemp("upstream"))
    engine = start_engine(tmp_path_factory.mktemp("engine"), "--redis", upstream.url)
    yield engine
    engine.stop()
    upstream.stop()


def answers(server: Server, chunks: list[bytes]) -> bytes:
    """Return everything that a server sends back for these chunks, including the replies to END."""
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(encode([b"FLUSHALL"]))
        assert connection.recv(100) == b"+OK\r\n"
        for chunk in [*chunks, END]:
            connection.sendall(chunk)
        received = b""
        while not received.endswith(END_REPLY):
            data = connection.recv(65536)
            assert data, f"the connection was closed after {received!r}"
            received += data
    return _MODULES.sub(rb"\1", _CONNECTION_NUMBER.sub(rb"\1:0\r\n", received))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # an autouse fixture only sets the environment once
)
@given(st.lists(everything, min_size=1, max_size=25).map(without_broken_transactions), st.data())
def test_any_commands_get_the_replies_of_redis(
    plain: Server, through_engine: Server, commands: list[bytes], data: st.DataObject
):
    stream = b"".join(commands)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
    chunks = cut(stream, places)

    expected = answers(plain, chunks)

    assert answers(through_engine, chunks) == expected


@pytest.mark.parametrize(
    "lines",
    [
        "CLIENT REPLY OFF|RESET|PING",
        "CLIENT REPLY OFF|CLIENT REPLY ON|PING",
        "CLIENT REPLY OFF|CLIENT REPLY SKIP|PING|PING",
        "CLIENT REPLY SKIP|CLIENT REPLY ON|PING",
        "CLIENT REPLY OFF|SUBSCRIBE a|GET b",
        "SUBSCRIBE a|GET b|FLUSHDB|RESET|PING",
        "MULTI|COPY a b|WATCH c|TYPE a|EXEC",
        "MULTI|MULTI|GET a|EXEC|EXEC",
        "SET a 1|WATCH a|MULTI|NOSUCH|EXEC|GET a",
    ],
)
def test_sequences_that_went_wrong_once(plain: Server, through_engine: Server, lines: str):
    chunks = [encode(line.encode().split()) for line in lines.split("|")]

    assert answers(through_engine, chunks) == answers(plain, chunks)
