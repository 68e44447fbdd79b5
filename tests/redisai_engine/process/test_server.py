"""The life of the engine's process: listening, draining, TLS, and a Redis that goes away and comes back."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.connection import Connect, Connection, connected
from support.gateway import Pair, predict, prediction, store_model, store_onnx
from support.replies import bulk
from support.servers import Server, redis_server_binary
from support.tiny_models import onnx_counter, onnx_pooling
from support.waiting import accepts_connections, free_port, wait_until

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"


def run_engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an engine that is expected to exit without a signal."""
    return subprocess.run(
        [sys.executable, "-m", "redisai_engine", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("workers", ["1", "2"])
class TestRefusals:
    """Why the engine can't listen: one sentence, whichever process finds out."""

    def test_a_taken_port_is_refused(self, workers: str, redis_server: Server):
        port = str(redis_server.port)

        result = run_engine("--port", port, "--redis", redis_server.url, "--workers", workers)

        assert result.returncode == 1
        assert result.stderr == (
            f"redisai-engine: can't listen on 127.0.0.1:{port}: Address already in use; choose another --port\n"
        )
        assert result.stdout == ""

    def test_an_address_of_somebody_else_is_refused(self, workers: str, redis_server: Server):
        where = ("--port", "0", "--bind", "192.0.2.1")

        result = run_engine(*where, "--redis", redis_server.url, "--workers", workers)

        assert result.returncode == 1
        assert result.stderr == "redisai-engine: can't listen on 192.0.2.1:0: Cannot assign requested address\n"

    def test_a_name_that_leads_nowhere_is_refused(self, workers: str, redis_server: Server):
        where = ("--port", "0", "--bind", "no.such.host.invalid")

        result = run_engine(*where, "--redis", redis_server.url, "--workers", workers)

        assert result.returncode == 1
        assert result.stderr.startswith("redisai-engine: can't listen on no.such.host.invalid:0: ")
        assert len(result.stderr.splitlines()) == 1

    def test_a_certificate_that_is_missing_is_refused(self, workers: str, redis_server: Server):
        files = ("--tls-cert", "/nowhere", "--tls-key", "/nowhere")

        result = run_engine("--port", "0", "--redis", redis_server.url, "--workers", workers, *files)

        assert result.returncode == 1
        assert result.stderr == "redisai-engine: tls-cert, /nowhere, can't be read: No such file or directory\n"


class TestListening:
    """Where the engine listens, and what it prints."""

    def test_it_listens_on_this_machine_only_unless_told_otherwise(self, pair: Pair):
        addresses = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}

        assert f"0100007F:{pair.engine.port:04X}" in addresses
        assert f"00000000:{pair.engine.port:04X}" not in addresses

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_ipv6(self, workers: str, redis_server: Server, new_engine: Callable[..., Server]):
        server = new_engine("--bind", "::1", "--redis", redis_server.url, "--workers", workers)

        with socket.create_connection(("::1", server.port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(100) == PONG

    def test_the_engine_is_the_same_by_its_console_script(self, redis_server: Server):
        script = Path(sys.executable).with_name("redisai-engine")
        if not script.exists():
            pytest.skip("the project is not installed in this environment")
        result = subprocess.run([script, "--port", "x"], capture_output=True, text=True, timeout=60)

        assert result.returncode == 1
        assert result.stderr == ("redisai-engine: --port can't be 'x': it must be a whole number from 0 to 65535\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", *make.split(), "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


class TestTls:
    """TLS to the client, and to Redis."""

    def test_clients_use_tls_where_there_is_a_certificate(
        self,
        redis_server: Server,
        new_engine: Callable[..., Server],
        connect: Connect,
        certificate: tuple[Path, Path],
    ):
        files = ("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))
        server = new_engine("--redis", redis_server.url, *files)
        context = ssl.create_default_context(cafile=certificate[0])

        wire = connect(server, tls=context)

        store_model(wire, "server:tls")
        assert predict(wire, "server:tls", 2, 3) == 5.0
        wire.ask("SET", "server:large", b"x" * 3_000_000)
        assert wire.ask("GET server:large") == bulk(b"x" * 3_000_000)
        wire.ask("DEL server:large server:tls")
        plain = connect(server)
        plain.send("PING")
        assert plain.ends()

    def test_a_client_that_ends_a_tls_connection_is_let_go(
        self, new_pair: Callable[..., Pair], connect: Connect, certificate: tuple[Path, Path]
    ):
        pair = new_pair("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))
        direct = connect(pair.redis)
        context = ssl.create_default_context(cafile=certificate[0])
        with connected(pair.engine, tls=context) as wire:
            wire.send("CLIENT SETNAME tls", "BLPOP server:tls:list 0")
            wire.reply()
            wait_until(lambda: b"name=tls" in direct.ask("CLIENT LIST"))

        wait_until(lambda: b"name=tls" not in direct.ask("CLIENT LIST"), timeout_s=15)


class TestRedis:
    """The Redis behind the engine."""

    def test_a_unix_socket(self, redis_server: Server, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine("--redis", f"unix://{redis_server.unix_socket}")

        assert connect(server).ask("PING") == PONG

    def test_one_that_is_not_there_at_the_start(self):
        port = free_port()

        result = run_engine("--port", "0", "--redis", f"redis://:secret@127.0.0.1:{port}")

        assert result.returncode == 1
        warning, error = result.stderr.splitlines()
        assert warning.endswith("use --redis-password-file or the variable REDISAI_ENGINE_REDIS")
        assert error == f"redisai-engine: Redis at redis://127.0.0.1:{port} can't be reached: Connection refused"
        assert "secret" not in result.stderr

    def test_the_check_at_the_start_leaves_no_connection(self, pair: Pair, connect: Connect):
        with connected(pair.redis) as direct:
            names = direct.ask("CLIENT LIST").decode().splitlines()

        assert not [line for line in names if "cmd=NULL" in line]

    def test_one_that_is_lost_and_comes_back(
        self, new_redis: Callable[..., Server], new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        redis = new_redis()
        server = new_engine("--redis", redis.url)
        idle, blocked, predicting = connect(server), connect(server), connect(server)
        idle.ask("PING")
        store_model(predicting, "m")
        predict(predicting, "m", 1, 2)
        blocked.send("BLPOP never 0", "PING", "AI.TENSORGET x")
        direct = connect(redis)
        wait_until(lambda: b"blocked_clients:1" in direct.ask("INFO clients"))

        redis.process.kill()
        redis.process.wait()

        assert idle.ends()
        assert blocked.rest() == b""
        for late in ("PING", "AI.TENSORGET x", "GET k"):
            wire = connect(server)
            wire.send(late)
            assert wire.rest() == b""
        unreachable = f"Redis at redis://127.0.0.1:{redis.port} can't be reached: Connection refused"
        assert server.logged(unreachable).count(unreachable) == 1
        command = [redis_server_binary(), "--port", str(redis.port), "--dir", str(tmp_path), "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as again:
            try:
                wait_until(lambda: accepts_connections(redis.port))
                wire = connect(server)
                assert wire.ask("PING") == PONG
                store_model(wire, "m", "Mul")
                assert predict(wire, "m", 2, 3) == 6.0
            finally:
                again.terminate()

    @staticmethod
    def engine_before(listener: socket.socket, new_engine: Callable[..., Server]) -> Server:
        """Start an engine in front of a socket that answers the PING with which it looks for Redis."""

        def answer() -> None:
            visit = listener.accept()[0]
            with visit:
                visit.recv(100)
                visit.sendall(PONG)

        listener.settimeout(30)
        answering = threading.Thread(target=answer)
        answering.start()
        server = new_engine("--redis", f"redis://127.0.0.1:{listener.getsockname()[1]}", "--strict")
        answering.join()
        return server

    def test_one_that_is_lost_in_the_middle_of_a_reply(self, new_engine: Callable[..., Server], connect: Connect):
        """The client must not take an error for the rest of its value."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = self.engine_before(listener, new_engine)
            wire = connect(server)
            wire.send("GET value", "PING")
            redis, _ = listener.accept()
            redis.settimeout(10)
            redis.recv(1000)

            redis.sendall(b"$100\r\nhalf of ")
            redis.close()

            assert wire.rest() == b"$100\r\nhalf of "

    def test_one_that_answers_nonsense(self, new_engine: Callable[..., Server], connect: Connect):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = self.engine_before(listener, new_engine)
            wire = connect(server)
            wire.send("AI.TENSORGET t")
            redis, _ = listener.accept()

            redis.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            assert wire.rest().startswith(b"-ERR Protocol error: Redis sent bytes that are not a reply: b'HTTP/1.1")
            redis.close()

    def test_too_many_connections_there_are_an_error_here(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair()
        direct = connect(pair.redis)
        direct.ask("CONFIG SET maxclients 5")

        answers = []
        for _ in range(8):
            wire = connect(pair.engine)
            wire.send("PING")
            answers.append(wire.reply())

        assert answers[0] == PONG
        assert answers[-1] == b"-ERR max number of clients reached\r\n"


@pytest.mark.slow
class TestDraining:
    """After SIGTERM no more requests are taken, and those that have begun are finished."""

    @pytest.fixture
    def slow(self, new_engine: Callable[..., Server], connect: Connect) -> tuple[Server, Connection]:
        """An engine with a model that runs as many steps as its input says."""
        server = new_engine("--model-execution-timeout", "0")
        wire = connect(server)
        wire.ask("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
        wire.send("AI.TENSORSET start FLOAT 1 VALUES 0", "AI.TENSORSET few INT64 1 VALUES 10")
        wire.send("AI.MODELEXECUTE slow INPUTS 2 few start OUTPUTS 1 y", "AI.TENSORSET n INT64 1 VALUES 1500000")
        assert wire.replies(4) == [OK] * 4
        return server, wire

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_running_model_is_finished_and_answered(
        self, slow: tuple[Server, Connection], connect: Connect, number: signal.Signals
    ):
        server, wire = slow
        idle = connect(server)
        idle.ask("PING")
        wire.send("AI.MODELEXECUTE slow INPUTS 2 n start OUTPUTS 1 y")
        started = time.monotonic()
        idle.ask("PING")  # all earlier bytes have been read by then

        server.process.send_signal(number)

        assert idle.ends()
        wait_until(lambda: not accepts_connections(server.port))
        assert wire.rest() == OK
        assert time.monotonic() - started > 0.2, "the model was done before the signal came: give it more steps"
        assert server.process.wait(20) == 0

    def test_a_run_that_can_not_be_stopped_holds_up_neither_others_nor_the_end(
        self, new_engine: Callable[..., Server], connect: Connect
    ):
        """One kernel that would take an hour, on zeros of a shape that the input gives."""
        server = new_engine("--model-execution-timeout", "1000", "--threads-per-queue", "1")
        wire, other = connect(server), connect(server)
        store_onnx(wire, "pooling", onnx_pooling())
        store_model(wire, "server:sum")
        wire.ask("AI.TENSORSET n INT64 4 VALUES 1 1 6000 3000")

        answer = wire.ask("AI.MODELEXECUTE pooling INPUTS 1 n OUTPUTS 1 y")
        again = wire.ask("AI.MODELEXECUTE pooling INPUTS 1 n OUTPUTS 1 y")
        sums = [predict(other, "server:sum", 1, number) for number in range(5)]
        server.process.send_signal(signal.SIGTERM)

        assert answer == b"-ERR the run takes longer than the 1000 ms that are allowed and can't be stopped\r\n"
        assert again.startswith(b"-ERR another run of this model takes longer than the 1000 ms that are allowed")
        assert sums == [1, 2, 3, 4, 5]
        assert server.process.wait(20) == 0
        assert "a run on CPU takes longer than 1000 ms and can't be stopped" in server.log.read_text()

    def test_a_blocked_client_does_not_hold_it_up(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine()
        wire, subscriber, monitor = connect(server), connect(server), connect(server)
        wire.send("PING", "BLPOP never 0", "AI.INFO x")
        wire.reply()
        subscriber.ask("SUBSCRIBE a")
        monitor.ask("MONITOR")
        started = time.monotonic()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 5
        assert wire.ends()
        assert server.complaints() == ""

    def test_a_client_in_the_middle_of_a_transaction_does_not_hold_it_up(
        self, new_engine: Callable[..., Server], connect: Connect
    ):
        server = new_engine()
        wire = connect(server)
        wire.send("MULTI", "SET a 1", b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\nhal")
        wire.replies(2)
        started = time.monotonic()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 5


def test_a_run_that_needs_too_much_memory_fails_and_the_engine_goes_on(
    new_engine: Callable[..., Server], connect: Connect
):
    wire = connect(new_engine("--onnx-memory", str(2**28)))
    store_onnx(wire, "pooling", onnx_pooling())
    store_model(wire, "server:sum")
    wire.ask("AI.TENSORSET huge INT64 4 VALUES 1 1 20000 20000")
    wire.ask("AI.TENSORSET small INT64 4 VALUES 1 1 1000 1000")
    runs = [wire.ask(f"AI.MODELEXECUTE pooling INPUTS 1 {n} OUTPUTS 1 y") for n in ("huge", "small", "huge", "small")]

    assert [run[:1] for run in runs] == [b"-", b"+", b"-", b"+"]
    assert b"is smaller than requested bytes of 1600000000" in runs[0]
    assert predict(wire, "server:sum", 1, 2) == 3


def test_a_prediction_works_with_whatever_is_set_in_the_environment(
    redis_server: Server, new_engine: Callable[..., Server], connect: Connect
):
    variables = {"REDISAI_ENGINE_REDIS": redis_server.url, "REDISAI_ENGINE_STRICT": "yes", "PYTHONUNBUFFERED": "1"}
    server = new_engine(environment={**variables, "HOME": os.devnull})
    wire = connect(server)

    store_model(wire, "server:environment")

    assert predict(wire, "server:environment", 2, 3) == 5.0
    wire.send(prediction("server:environment", 2, 3), "DEL server:environment")
    assert wire.replies(2)[1] == b":1\r\n"
