"""How many replies Redis may owe a client: few until they turn out to be small, so that its memory is safe."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.redis.window import ReplyWindow
from support.connection import Connect, Connection
from support.servers import Server

MIB = 2**20


def test_it_grows_while_replies_are_small() -> None:
    window = ReplyWindow(MIB)
    sizes = []
    for _ in range(5):
        window.close(window.size, received=0)
        window.open(window.size // 2, received=window.size * 10)
        sizes.append(window.size)

    assert sizes == [16, 64, 256, 256, 256]


@given(st.lists(st.integers(1, 100 * MIB), min_size=1, max_size=50), st.integers(1, 1000 * MIB))
def test_replies_of_one_size_never_exceed_the_limit_but_one_always_fits(sizes: list[int], limit: int) -> None:
    window = ReplyWindow(limit)
    for each in sizes:
        window.close(window.size, received=0)
        window.open(0, received=window.size * each)

        assert window.size == 1 or window.size * each <= limit


def peak(wire: Connection) -> int:
    lines = wire.ask("INFO memory").split(b"\r\n")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"used_memory_peak:"))


def test_a_client_that_asks_for_much_at_once_takes_no_more_of_redis_than_its_limit(
    new_engine: Callable[..., Server], connect: Connect
) -> None:
    server = new_engine("--output-limit", str(4 * MIB))
    wire, other = connect(server), connect(server)
    assert wire.ask("SET", "large", b"x" * MIB) == b"+OK\r\n"
    before = peak(other)

    wire.send(*["GET large"] * 100)

    wire.half_close()
    wire.rest()  # all replies, or as many as came before the engine ended a client that reads too slowly
    assert peak(other) - before < 12 * MIB
    server.stop()


def test_a_pipeline_that_waits_for_nothing_is_answered_in_full(
    new_engine: Callable[..., Server], connect: Connect
) -> None:
    wire = connect(new_engine())

    wire.send(*["PING"] * 3, *[("ECHO", str(number)) for number in range(2000)], ("AI.TENSORSET", "x", "FLOAT", 1))

    assert wire.replies(3) == [b"+PONG\r\n"] * 3
    assert [reply.split(b"\r\n")[1] for reply in wire.replies(2000)] == [b"%d" % number for number in range(2000)]
    assert wire.reply() == b"+OK\r\n"
