"""Several worker processes behind one port act as one engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.servers import Server
from support.transcripts import recorded_model
from support.waiting import is_running, wait_until
from support.workers import children, command_line, replace, workers_of

CONNECTIONS = 12  # enough for both workers to get some


@pytest.fixture
def two_workers(new_engine: Callable[..., Server]) -> Server:
    return new_engine("--workers", "2")


def connections(server: Server) -> list[redis.Redis]:
    return [server.client(single_connection_client=True) for _ in range(CONNECTIONS)]


def store(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", recorded_model("mul.onnx"))
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 2, "VALUES", 1, 2)


def run(client: redis.Redis) -> object:
    return client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "b")


def figures(client: redis.Redis) -> dict[bytes, object]:
    reply = client.execute_command("AI.INFO", "m")
    return dict(zip(reply[::2], reply[1::2], strict=True))


def test_run_figures_of_all_workers_add_up(two_workers: Server) -> None:
    clients = connections(two_workers)
    store(clients[0])

    for client in clients:
        run(client)

    assert {figures(client)[b"calls"] for client in clients} == {CONNECTIONS}


@pytest.mark.slow
def test_resetstat_reaches_all_workers(two_workers: Server) -> None:
    clients = connections(two_workers)
    store(clients[0])
    for client in clients:
        run(client)

    clients[0].execute_command("AI.INFO", "m", "RESETSTAT")

    assert {figures(client)[b"calls"] for client in clients} == {0}


@pytest.mark.slow
def test_a_changed_setting_holds_in_all_workers(two_workers: Server) -> None:
    clients = connections(two_workers)

    clients[0].execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", 12345)

    assert {client.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") for client in clients} == {12345}


LARGE = "/" + "x" * 300_000


@pytest.mark.slow
def test_a_setting_of_any_size_holds_in_all_workers_and_in_those_to_come(two_workers: Server) -> None:
    clients = connections(two_workers)

    clients[0].execute_command("AI.CONFIG", "BACKENDSPATH", LARGE)

    assert {client.execute_command("AI.CONFIG", "GET", "BACKENDSPATH") for client in clients} == {LARGE.encode()}
    first, second = workers_of(two_workers)
    for worker in (first, second):
        replace(two_workers, worker)
    later = connections(two_workers)
    assert {client.execute_command("AI.CONFIG", "GET", "BACKENDSPATH") for client in later} == {LARGE.encode()}
    store(later[0])
    run(later[0])
    assert {figures(client)[b"calls"] for client in later} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("given_by", ["argument", "variable"])
def test_no_process_shows_the_password(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], given_by: str
) -> None:
    """Except where the operator has written it: on the engine's own command line, or in its environment."""
    server = new_redis("--requirepass", "S3CRETpw")
    url = f"redis://:S3CRETpw@127.0.0.1:{server.port}"
    options: dict[str, object] = {"environment": {"REDISAI_ENGINE_REDIS": url}} if given_by == "variable" else {}
    arguments = ("--redis", url) if given_by == "argument" else ()

    engine = new_engine("--workers", "2", *arguments, **options)
    client = engine.client(password="S3CRETpw")
    assert client.ping()

    workers = workers_of(engine)
    assert len(workers) == 2
    for process in workers:
        assert b"S3CRETpw" not in command_line(process)
        assert b"S3CRETpw" not in Path(f"/proc/{process}/environ").read_bytes()
    assert "S3CRETpw" not in engine.log.read_text()
    told = [client.info(), client.client_list(), client.execute_command("AI.CONFIG", "GET", "BACKENDSPATH")]
    assert "S3CRETpw" not in repr(told)


class TestReplacing:
    """A worker that ends, or hangs, is replaced. The others serve meanwhile."""

    @pytest.mark.slow
    def test_one_that_dies(self, two_workers: Server):
        first, second = workers_of(two_workers)

        replace(two_workers, first)

        assert second in workers_of(two_workers)
        assert all(client.ping() for client in connections(two_workers))
        two_workers.logged(f"(process {first}) was ended by SIGKILL; it is started anew")

    def test_one_that_hangs(self, new_engine: Callable[..., Server]):
        """A stopped process stands for any that doesn't get on: it doesn't end by itself, and keeps its clients."""
        server = new_engine("--workers", "2", "--worker-timeout", "1000")
        clients = connections(server)
        assert all(client.ping() for client in clients)
        hung, well = workers_of(server)

        replace(server, hung, signal.SIGSTOP)

        assert set(workers_of(server)) > {well}
        assert all(client.ping() for client in connections(server))
        server.logged(f"(process {hung}) was killed because its event loop hasn't run for 1 s; it is started anew")

    @pytest.mark.slow
    def test_one_that_dies_again_and_again_is_told_loudly_and_given_time(self, two_workers: Server):
        _, steady = workers_of(two_workers)
        seen = {steady}
        for _ in range(5):  # each as soon as it exists, so that a minute is enough on any machine
            dying = wait_until(lambda: set(workers_of(two_workers)) - seen).pop()
            seen.add(dying)
            os.kill(dying, signal.SIGKILL)

        told = "died 5 times within a minute; it is started again in 30 s, and the others serve alone"
        wait_until(lambda: told in two_workers.log.read_text())
        assert workers_of(two_workers) == [steady]
        assert all(client.ping() for client in connections(two_workers))
        assert two_workers.stop() == 0


@pytest.mark.slow
def test_no_process_is_left_when_the_parent_is_killed(two_workers: Server) -> None:
    workers = children(two_workers.process.pid)

    two_workers.process.kill()

    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), timeout_s=30, what="no process")


@pytest.mark.slow
class TestEnding:
    """SIGTERM ends everything within `--shutdown-timeout`, whatever runs."""

    def test_a_hung_worker_is_killed(self, new_engine: Callable[..., Server]):
        server = new_engine("--workers", "2", "--shutdown-timeout", "5", "--worker-timeout", "0")
        hung, well = workers_of(server)
        os.kill(hung, signal.SIGSTOP)

        assert server.stop() in (0, 1)  # 1 where the last half second is too short for the rest; not -9

        assert not is_running(hung)
        assert not is_running(well)


class TestTheDefault:
    """Without `--workers`, the engine has as many as the processors that it may use."""

    def test_one_a_processor(self, redis_server: Server, new_engine: Callable[..., Server]):
        processors = len(os.sched_getaffinity(0))

        engine = new_engine("--redis", redis_server.url, workers="")

        assert len(workers_of(engine)) == (processors if processors > 1 else 0)
        assert all(client.ping() for client in connections(engine))

    def test_on_one_processor_the_engine_is_one_process(self, redis_server: Server, new_engine: Callable[..., Server]):
        engine = new_engine("--redis", redis_server.url, workers="", processors=str(min(os.sched_getaffinity(0))))

        assert workers_of(engine) == []
        assert all(client.ping() for client in connections(engine))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one processor nobody polls")
def test_one_of_two_workers_on_two_processors_polls_for_a_busy_client(new_engine: Callable[..., Server]) -> None:
    processors = sorted(os.sched_getaffinity(0))[:2]
    engine = new_engine("--workers", "2", "--busy-poll", "10000", processors=",".join(map(str, processors)))
    clients, workers = connections(engine), set(workers_of(engine))

    def polling() -> set[int]:
        """Ask on all connections, and return the processes that have a place to poll in meanwhile."""
        for client in clients:
            client.ping()
            client.ping()
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return workers & {int(words[4]) for words in locks if words[1] == "POSIX"}

    assert len(wait_until(polling, what="a worker that polls")) == 1
    assert all(len(polling()) <= 1 for _ in range(100))
