"""A deployment whose processes keep dying isn't ready, whoever asks, from a second after the last of them on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from redisai_engine.protocol.frames import ReplyError
from support.http_calls import HttpServer, http_engine, start_http_engine
from support.obedient import obedient, workers_of
from support.scraping import parsed
from support.servers import Server
from support.waiting import wait_until
from support.wire import Wire

FAILED = "the model has failed: its process has died 5 times within a minute; store it anew"
DEATHS = 5
START_S = 240.0  # importing MLflow may take a minute on a busy machine
READY = "/v2/health/ready"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """An engine that preloads a Python model, which it has."""
    options = ("--python-models", "yes", "--preload", "m")
    with http_engine(tmp_path_factory.mktemp("python"), *options) as server:
        yield server


@pytest.fixture
def wire(http: HttpServer) -> Iterator[Wire]:
    """A connection to the engine with the model, stored anew and ready."""
    with Wire(http.engine.port, timeout_s=START_S) as connection:
        assert connection.ask("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
        wait_until(lambda: status(http, READY) == 200, timeout_s=START_S, what="readiness")
        yield connection


def status(http: HttpServer, path: str) -> int:
    return http.ask("GET", path).status


def kill_worker(http: HttpServer) -> float:
    """Kill the model's worker, as soon as it has one. Return the time."""
    (worker,) = wait_until(lambda: workers_of(http.engine), timeout_s=START_S, what="a worker")
    worker.send_signal(signal.SIGKILL)
    killed_at = monotonic()
    wait_until(lambda: not worker.is_running(), what="its end")
    return killed_at


def run_to_death(wire: Wire) -> float:
    """Have the model's process exit in a run. Return the time."""
    assert wire.ask("AI.TENSORSET", "x", "STRING", 1, "VALUES", "exit 1") == b"OK"
    reply = wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    assert isinstance(reply, ReplyError)
    return monotonic()


@pytest.mark.parametrize("how", ["while it has nothing to do", "in runs"])
def test_readiness_is_red_within_a_second_of_the_last_death(http: HttpServer, wire: Wire, how: str) -> None:
    for _ in range(DEATHS):
        last_at = kill_worker(http) if how.startswith("while") else run_to_death(wire)
    wait_until(lambda: status(http, READY) == 503, what="no readiness")

    assert monotonic() - last_at < 1.0
    reply = http.ask("GET", "/v2/models/m/ready")
    assert (reply.status, reply.json()) == (503, {"error": FAILED})
    http.engine.logged(f"deployment 'm' isn't ready: ERR {FAILED}")  # it has been tried again
    assert status(http, READY) == 503


def deaths(http: HttpServer) -> float:
    return parsed(http.ask("GET", "/metrics").body.decode()).sum("redisai_host_deaths_total", deployment="m")


def test_all_who_tell_of_a_deployment_say_that_it_has_failed(http: HttpServer, wire: Wire) -> None:
    assert b"failed" not in wire.ask("AI.INFO", "m")  # type: ignore[operator]
    before = deaths(http)
    for _ in range(DEATHS):
        run_to_death(wire)

    fields = wire.ask("AI.INFO", "m")
    assert isinstance(fields, list)
    assert fields[-2:] == [b"failed", f"ERR {FAILED}".encode()]
    (row,) = http.ask("POST", "/v2/repository/index").json()
    assert (row["state"], row["reason"]) == ("UNAVAILABLE", FAILED)
    assert http.ask("POST", "/invocations/m", {"inputs": ["be well"]}).status == 503
    wait_until(lambda: deaths(http) == before + DEATHS, what="the deaths in the metrics")


def test_it_is_ready_again_once_it_is_stored_anew(http: HttpServer, wire: Wire) -> None:
    for _ in range(DEATHS):
        run_to_death(wire)
    wait_until(lambda: status(http, READY) == 503, what="no readiness")

    assert wire.ask("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"

    wait_until(lambda: status(http, READY) == 200, what="readiness")
    wait_until(lambda: status(http, "/v2/models/m/ready") == 200, what="its own")
    assert b"failed" not in wire.ask("AI.INFO", "m")  # type: ignore[operator]


CONNECTIONS = 16  # enough for both processes to get some


def answer(wire: Wire, command: str) -> object:
    text = ("AI.TENSORSET", "x", "STRING", 1, "VALUES", command)
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    reply = wire.ask("AI.DAGEXECUTE", "ROUTING", "m", "|>", *text, "|>", *run, "|>", "AI.TENSORGET", "y", "VALUES")
    assert isinstance(reply, list)
    return reply[-1][0] if isinstance(reply[-1], list) else reply[1]


@pytest.mark.slow
def test_all_processes_of_an_engine_say_the_same(new_engine: Callable[..., Server], tmp_path: Path) -> None:
    """A deployment that has failed in one of them, and that the others still answer for."""
    options = ("--python-models", "yes", "--preload", "m", "--workers", "2")
    http = start_http_engine(tmp_path, *options, start=new_engine)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(http.engine.port, timeout_s=START_S)) for _ in range(CONNECTIONS)]
        assert wires[0].ask("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
        by_worker = {answer(wire, "run os.getpid()"): wire for wire in wires}
        assert len(by_worker) == 2
        failing, healthy = by_worker.values()
        wait_until(lambda: statuses(http) == {200}, timeout_s=START_S, what="readiness of both")

        for _ in range(DEATHS):
            wait_until(lambda: "exit code 1" in str(answer(failing, "exit 1")), timeout_s=START_S, what="a death")

        wait_until(lambda: statuses(http) == {503}, what="no readiness of both")
        assert answer(healthy, "be well") == b"be well"
        for wire in (failing, healthy):
            fields = wire.ask("AI.INFO", "m")
            assert isinstance(fields, list)
            assert fields[-2:] == [b"failed", f"ERR {FAILED}".encode()]


def statuses(http: HttpServer) -> set[int]:
    return {status(http, READY) for _ in range(CONNECTIONS)}
