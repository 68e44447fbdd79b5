"""Clients that write a whole pipeline before they read the first reply, as redis-py and hiredis do."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from support.connection import Connect, Connection, encoded
from support.gateway import Pair, predict, store_model
from support.waiting import wait_until

pytestmark = pytest.mark.slow

MIB = 2**20
TENSOR = b"x" * 20_000
LARGE_DAG = (
    "AI.DAGEXECUTE_RO ROUTING pipe:m |> AI.TENSORSET a FLOAT 5000 |> AI.MODELEXECUTE pipe:m INPUTS 2 a a OUTPUTS 1 y"
    " |> AI.TENSORGET y META BLOB"
)

# A request and how often it is sent: its replies are far more than the sockets can hold.
REQUESTS: dict[str, tuple[bytes, int]] = {
    "plain": (encoded(("ECHO", TENSOR)), 2000),
    "plain, small replies": (encoded("PING x"), 100_000),
    "one step": (encoded("AI.TENSORGET pipe:t META BLOB"), 2000),
    "two steps": (encoded(("AI.TENSORSET", "pipe:set", "UINT8", len(TENSOR), "BLOB", TENSOR)), 2000),
    "three steps": (encoded("AI.MODELEXECUTE pipe:m INPUTS 2 pipe:a pipe:a OUTPUTS 1 pipe:y"), 2000),
    "prediction": (encoded(LARGE_DAG), 2000),
    "with a key": (encoded("AI.DAGEXECUTE_RO LOAD 1 pipe:t |> AI.TENSORGET pipe:t BLOB"), 2000),
    "behind everything": (encoded("AI.INFO pipe:m"), 2000),
    "a model": (encoded("AI.MODELGET pipe:m"), 10_000),
    "changes the connection": (encoded("SELECT 0"), 5000),
}


@pytest.fixture
def filled(pair: Pair, connect: Connect) -> Connection:
    """A connection to an engine that holds a model and two tensors."""
    wire = connect(pair.engine)
    store_model(wire, "pipe:m")
    predict(wire, "pipe:m", 1, 2)
    wire.ask("AI.TENSORSET", "pipe:t", "UINT8", len(TENSOR), "BLOB", TENSOR)
    wire.ask("AI.TENSORSET", "pipe:a", "FLOAT", 1, "VALUES", 2)
    return wire


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_request_is_answered(filled: Connection, kind: str):
    request, count = REQUESTS[kind]
    filled.socket.settimeout(60)
    expected = filled.ask_raw(request)

    for _ in range(0, count, 100):
        filled.send(request * 100)

    assert [reply[:1] for reply in filled.replies(count)] == [expected[:1]] * count
    assert filled.is_quiet()


@pytest.mark.parametrize("seed", range(5))
def test_requests_of_all_kinds_are_answered_in_order(filled: Connection, seed: int):
    chosen = random.Random(seed).choices(list(REQUESTS), k=3000)
    expected = {kind: filled.ask_raw(request) for kind, (request, _) in REQUESTS.items()}
    filled.socket.settimeout(60)

    for start in range(0, len(chosen), 100):
        filled.send(b"".join(REQUESTS[kind][0] for kind in chosen[start : start + 100]))

    answers = filled.replies(len(chosen))
    differing = [kind for kind, reply in zip(chosen, answers, strict=True) if reply[:20] != expected[kind][:20]]
    assert set(differing) <= {"behind everything"}  # its statistics count the runs
    assert filled.is_quiet()


@pytest.mark.parametrize("request_", ["GET pipe:value", "AI.TENSORGET pipe:t BLOB"])
def test_replies_that_nobody_reads_are_few(
    pair: Pair, filled: Connection, connect: Connect, direct: Connection, request_: str
):
    """However much is requested, Redis holds a few hundred replies, and the engine what a few reads return."""
    filled.ask("SET", "pipe:value", TENSOR)
    filled.ask("CLIENT SETNAME slow")
    count = 5000

    filled.send(encoded(request_) * count)

    def waiting_in_redis() -> int:
        mine = next(line for line in direct.ask("CLIENT LIST").decode().splitlines() if " name=slow " in line)
        return int(mine.split(" omem=")[1].split()[0])

    held = []
    for number in range(50):
        assert predict(connect(pair.engine), "pipe:m", number, 3) == number + 3.0
        held.append(waiting_in_redis())
    assert max(held) < 600 * len(TENSOR)
    assert all(reply[:1] == b"$" for reply in filled.replies(count))


def test_a_client_may_send_everything_before_it_reads(pair: Pair, connect: Connect):
    """So do clients that send a pipeline in one call. Requests and replies are more than what the system buffers."""
    wire = connect(pair.engine)
    wire.ask("SET", "pipe:value", b"x" * 2000)
    wire.socket.settimeout(60)
    count = 50_000

    wire.send(b"".join(encoded(f"MGET pipe:value pipe:{i:0100}") for i in range(count)))

    assert {len(reply) for reply in wire.replies(count)} == {len(b"*2\r\n$2000\r\n") + 2000 + len(b"\r\n$-1\r\n")}


@pytest.mark.parametrize("kind", ["prediction", "with a key"])
def test_a_client_whose_replies_outgrow_the_limit_is_closed(new_pair: Callable[..., Pair], connect: Connect, kind: str):
    """Replies that the engine computes wait in the engine, up to `output-limit`."""
    pair = new_pair("--output-limit", str(MIB))
    slow, other = connect(pair.engine), connect(pair.engine)
    store_model(other, "pipe:m")
    predict(other, "pipe:m", 1, 2)
    other.ask("AI.TENSORSET", "pipe:t", "UINT8", len(TENSOR), "BLOB", TENSOR)
    request, _ = REQUESTS[kind]

    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        slow.send(request * 20_000)

    closed = "closed a client that didn't read its replies (see --output-limit)"
    wait_until(lambda: closed in pair.engine.log.read_text())
    assert predict(other, "pipe:m", 2, 3) == 5.0
