"""Clients that misbehave: nobody else notices, and the engine's memory stays bounded."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
from collections.abc import Callable

import psutil
import pytest

from support.connection import Connect, Connection, encoded
from support.gateway import Pair, predict, prediction, store_model
from support.torch_scripts import DEEP, deep
from support.waiting import wait_until

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
MIB = 2**20


def memory_of(pair: Pair) -> int:
    return int(psutil.Process(pair.engine.process.pid).memory_info().rss)


def descriptors_of(pair: Pair) -> int:
    return psutil.Process(pair.engine.process.pid).num_fds()


def reset_by_client(wire: Connection) -> None:
    """End the connection with RST, as a client that crashes does."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def fill(wire: Connection, stream: bytes) -> int:
    """Send again and again without reading, until the server accepts no more. Return the number of bytes sent."""
    sent = 0
    wire.socket.settimeout(1)
    try:
        while sent < 2000 * MIB:
            wire.socket.sendall(stream)
            sent += len(stream)
    except TimeoutError:
        return sent
    raise AssertionError(f"the server took {sent} bytes of requests from a client that reads nothing")


class TestMalformed:
    """Malformed bytes get Redis' error, behind the replies to earlier requests. Then the connection closes."""

    @pytest.mark.parametrize(
        ("stream", "text"),
        [
            (b"*1\r\n$-5\r\n", b"invalid bulk length"),
            (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", b"invalid bulk length"),
            (b"*1\r\n$x\r\n", b"invalid bulk length"),
            (b"*1\r\n:1\r\n", b"expected '$', got ':'"),
            (b"*x\r\n", b"invalid multibulk length"),
            (b"*99999999999999999999\r\n", b"invalid multibulk length"),
            (b"*2147483648\r\n", b"invalid multibulk length"),
            (b"*" + b"1" * 70_000, b"too big mbulk count string"),
            (b"*1\r\n$" + b"1" * 70_000, b"too big bulk count string"),
            (b"x" * 70_000, b"too big inline request"),
            (b"SET 'a\r\n", b"unbalanced quotes in request"),
        ],
    )
    def test_a_malformed_request_is_answered_and_closes(self, pair: Pair, connect: Connect, stream: bytes, text: bytes):
        answers = []
        for server in (pair.redis, pair.engine):
            wire = connect(server)
            wire.send(b"PING\r\n", stream)
            answers.append(wire.rest())

        assert answers[0] == answers[1] == PONG + b"-ERR Protocol error: %b\r\n" % text

    def test_what_came_before_is_finished_first(self, wire: Connection):
        store_model(wire, "robust:m")
        wire.send(prediction("robust:m", 2, 3), "AI.TENSORGET robust:none", "ECHO x", b"*1\r\n$-1\r\n", "PING")

        answers = wire.rest()

        assert answers.startswith(b"*4\r\n")
        assert answers.endswith(b"$1\r\nx\r\n-ERR Protocol error: invalid bulk length\r\n")

    @pytest.mark.parametrize("stream", [b"*-1\r\n", b"*0\r\n", b"\r\n", b"  \r\n"])
    def test_an_empty_request_has_no_reply(self, wire: Connection, stream: bytes):
        wire.send(stream * 3, "PING")

        assert wire.reply() == PONG


@pytest.mark.slow
class TestSlowReaders:
    """
    The bytes that wait for a client, or for an earlier command, are bounded, and other clients are served.

    There is more in test_pipelines.py.
    """

    @pytest.fixture
    def fresh(self, new_pair: Callable[..., Pair], connect: Connect) -> Pair:
        """An engine that holds a model, and a value and a tensor of 4 MiB each."""
        pair = new_pair()
        wire = connect(pair.engine)
        store_model(wire, "m")
        predict(wire, "m", 1, 2)
        wire.ask("SET", "value", b"x" * 4 * MIB)
        wire.ask("AI.TENSORSET", "tensor", "UINT8", 4 * MIB, "BLOB", b"x" * 4 * MIB)
        for _ in range(3):
            wire.ask("GET value")
            wire.ask("AI.TENSORGET tensor BLOB")
        return pair

    def test_replies_behind_a_slow_command_stay_outside(self, fresh: Pair, connect: Connect):
        """Redis would send them at once, but an earlier reply must come first."""
        from support.tiny_models import onnx_counter

        wire = connect(fresh.engine)
        wire.ask("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
        steps = "|> AI.TENSORSET n INT64 1 VALUES {} |> AI.TENSORSET s FLOAT 1 VALUES 0"
        dag = f"AI.DAGEXECUTE_RO ROUTING slow {steps} |> AI.MODELEXECUTE slow INPUTS 2 n s OUTPUTS 1 y"
        wire.ask(dag.format(10))
        before = memory_of(fresh)
        wire.send(dag.format(300_000), *["GET value"] * 100)
        largest = before

        while True:
            largest = max(largest, memory_of(fresh))
            wire.socket.settimeout(0.05)
            try:
                if wire.socket.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue

        wire.socket.settimeout(20)
        assert wire.reply().startswith(b"*3\r\n")
        assert all(len(wire.reply()) > 4 * MIB for _ in range(100))
        assert largest - before < 64 * MIB

    def test_requests_behind_a_blocked_one_stay_outside(self, fresh: Pair, connect: Connect):
        """AI.INFO waits for the command before it, which blocks forever."""
        wire, other = connect(fresh.engine), connect(fresh.engine)
        before = memory_of(fresh)
        wire.send("BLPOP never 0", "AI.INFO m")

        fill(wire, encoded(("SET", "key", b"x" * 60_000)) * 16)

        assert memory_of(fresh) - before < 64 * MIB
        other.ask("RPUSH never x")
        wire.socket.settimeout(10)
        assert wire.reply().startswith(b"*2\r\n$5\r\nnever")
        assert wire.reply().startswith(b"*18\r\n")
        assert wire.reply() == OK

    def test_who_reads_again_gets_everything(self, fresh: Pair, connect: Connect):
        slow = connect(fresh.engine)
        requests = ["GET value", "AI.TENSORGET tensor BLOB", "PING", prediction("m", 2, 3)] * 25
        slow.send(*requests)

        sizes = [len(slow.reply()) for _ in requests]

        assert sizes[2::4] == [len(PONG)] * 25
        assert all(size > 4 * MIB for size in sizes[0::4] + sizes[1::4])

    def test_one_reply_may_be_larger_than_the_bound(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair("--output-limit", "65536")
        wire = connect(pair.engine)
        wire.ask("AI.TENSORSET", "tensor", "UINT8", 8 * MIB, "BLOB", b"x" * 8 * MIB)

        for _ in range(3):
            assert len(wire.ask("AI.TENSORGET tensor BLOB")) > 8 * MIB

    def test_a_subscriber_that_does_not_read_is_redis_own_concern(self, fresh: Pair, connect: Connect):
        """Redis bounds what waits for a subscriber and closes the connection, so nothing waits in the engine."""
        slow, other = connect(fresh.engine), connect(fresh.engine)
        slow.ask("SUBSCRIBE news")
        before = memory_of(fresh)
        for _ in range(60):
            other.ask("PUBLISH", "news", b"x" * MIB)

        assert memory_of(fresh) - before < 64 * MIB


class TestOddRequests:
    """An unforeseen request fails alone."""

    @pytest.mark.parametrize("dimensions", [32, 33, 64, 65, 500])
    @pytest.mark.parametrize("warm", [False, True])
    def test_tensors_of_any_number_of_dimensions(
        self, pair: Pair, connect: Connect, wire: Connection, dimensions: int, *, warm: bool
    ):
        """NumPy supports at most 32 or 64 dimensions. Its exception once stopped all later turns."""
        odd, other = connect(pair.engine), connect(pair.engine)
        store_model(wire, "robust:dims")
        for client in (odd, other) if warm else (other,):
            predict(client, "robust:dims", 1, 2)
        shape = " ".join(["1"] * dimensions)
        sets = [f"|> AI.TENSORSET {name} FLOAT {shape} BLOB 1234" for name in "ab"]
        run = "|> AI.MODELEXECUTE robust:dims INPUTS 2 a b OUTPUTS 1 y |> AI.TENSORGET y META BLOB"

        answers = {odd.ask(f"AI.DAGEXECUTE_RO ROUTING robust:dims {' '.join(sets)} {run}") for _ in range(4)}
        answers.add(odd.ask(f"AI.TENSORSET robust:t FLOAT {shape} BLOB 1234"))

        if dimensions > 32:
            assert answers == {b"-ERR a tensor has at most 32 dimensions\r\n"}
        assert predict(odd, "robust:dims", 2, 3) == predict(other, "robust:dims", 2, 3) == 5.0

    @pytest.mark.parametrize("kind", sorted(DEEP))
    def test_a_deep_script_is_refused(self, wire: Connection, kind: str):
        source = deep(kind, 60_000)
        for command in (
            ("AI.SCRIPTSTORE", "robust:s", "CPU", "ENTRY_POINTS", 1, "f"),
            ("AI.SCRIPTSET", "robust:s", "CPU"),
        ):
            assert wire.ask(*command, "SOURCE", source).startswith(b"-ERR the script ")

        assert wire.is_quiet()


@pytest.mark.slow
class TestCrowds:
    """Many connections at once, and many that break off."""

    def test_two_thousand_idle_connections_open_none_to_redis(self, new_pair: Callable[..., Pair], connect: Connect):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 4500 and (hard == resource.RLIM_INFINITY or hard >= 4500):
            resource.setrlimit(resource.RLIMIT_NOFILE, (4500, hard))  # the engine inherits it
        elif soft < 4500:
            pytest.skip(f"this system allows {hard} open files")
        pair = new_pair()
        direct, active = connect(pair.redis), connect(pair.engine)
        store_model(active, "m")
        before = connections_received(direct)

        with contextlib.ExitStack() as sockets:
            address = pair.engine.host, pair.engine.port
            idle = [sockets.enter_context(socket.create_connection(address, timeout=10)) for _ in range(2000)]

            assert predict(active, "m", 2, 3) == 5.0
            wait_until(lambda: descriptors_of(pair) > 2000)
            assert connections_received(direct) == before
            idle[777].sendall(b"PING\r\n")
            assert idle[777].recv(100) == PONG
        wait_until(lambda: descriptors_of(pair) < 100)

    @pytest.mark.parametrize("end", [Connection.close, reset_by_client])
    def test_clients_that_die_at_any_moment_leave_nothing(
        self, new_pair: Callable[..., Pair], connect: Connect, end: Callable[[Connection], None]
    ):
        pair = new_pair()
        direct, other = connect(pair.redis), connect(pair.engine)
        store_model(other, "m")
        predict(other, "m", 2, 3)
        stream = b"".join(
            map(encoded, ["PING", "MULTI", "AI.TENSORSET t FLOAT 1 VALUES 1", "EXEC", "BLPOP never 0", "AI.INFO m"])
        )
        stream = prediction("m", 1, 2) + stream
        descriptors = descriptors_of(pair)
        clients = direct.ask("CLIENT LIST").count(b"id=")
        for length in range(1, len(stream), 3):
            wire = connect(pair.engine)
            wire.send(stream[:length])
            end(wire)

        wait_until(lambda: descriptors_of(pair) <= descriptors, timeout_s=10)
        wait_until(lambda: direct.ask("CLIENT LIST").count(b" id=") <= clients, timeout_s=10)
        assert predict(other, "m", 2, 3) == 5.0
        assert pair.engine.complaints() == ""

    def test_a_connection_that_comes_and_goes_leaves_no_memory(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair()

        def visit() -> None:
            wire = connect(pair.engine)
            wire.send("AI.TENSORSET t FLOAT 1 VALUES 1", "AI.TENSORGET t", "PING")
            wire.replies(3)
            wire.close()

        for _ in range(300):
            visit()
        before = memory_of(pair)

        for _ in range(1000):
            visit()

        assert memory_of(pair) - before < 8 * MIB


def connections_received(direct: Connection) -> int:
    stats = direct.ask("INFO stats").decode()
    return int(stats.split("total_connections_received:")[1].split("\r\n")[0])
