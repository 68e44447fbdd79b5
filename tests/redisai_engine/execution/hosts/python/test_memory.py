"""What workers take of the memory, as operators are told: what they share counts once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psutil
import pytest

from support.http_calls import HttpServer, http_engine
from support.obedient import guards_of, obedient, workers_of
from support.scraping import scrape
from support.servers import Server
from support.tiny_models import torch_with_weights
from support.torch_scripts import needs_torch
from support.waiting import is_running, wait_until
from support.wire import Wire

WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine
SOON_S = 60.0  # the more processes there are, the more seldom they are measured
DEPLOYMENTS = 10
NEAR = 0.15
MB = 10**6


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_engine(tmp_path_factory.mktemp("memory"), "--python-models", "yes") as server:
        yield server


@pytest.fixture
def wire(http: HttpServer) -> Iterator[Wire]:
    with Wire(http.engine.port, timeout_s=WAIT_S) as connection:
        yield connection
        connection.ask("FLUSHALL")
        wait_until(lambda: not any(is_running(worker.pid) for worker in workers_of(http.engine)))


def store(wire: Wire, name: str) -> None:
    assert wire.ask("AI.MODELSTORE", name, "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"


def by_metrics(http: HttpServer, **labels: str) -> float:
    return scrape(http.port).sum("redisai_model_bytes", **labels)


def by_info(wire: Wire, name: str) -> int:
    fields = wire.ask("AI.INFO", name)
    assert isinstance(fields, list)
    return int(fields[fields.index(b"memory") + 1])


def by_page(http: HttpServer, name: str) -> float:
    (shown,) = re.findall(
        r'data-value="model_bytes">([0-9.]+)<', http.ask("GET", f"/live/deployments/{name}").body.decode()
    )
    return float(shown) * MB


def processes_of(engine: Server) -> list[psutil.Process]:
    return [*guards_of(engine), *workers_of(engine)]


def test_what_deployments_share_counts_once(http: HttpServer, wire: Wire) -> None:
    for number in range(DEPLOYMENTS):
        store(wire, f"m{number}")
    processes = processes_of(http.engine)
    assert len(processes) == 2 * DEPLOYMENTS
    shares = sum(process.memory_full_info().pss for process in processes)
    full = sum(process.memory_info().rss for process in processes)
    assert shares < full / 3, "they do share"

    wait_until(lambda: abs(by_metrics(http) / shares - 1) < NEAR, timeout_s=SOON_S, what="their share in metrics")
    assert abs(sum(by_info(wire, f"m{number}") for number in range(DEPLOYMENTS)) / shares - 1) < NEAR
    assert abs(sum(by_page(http, f"m{number}") for number in range(DEPLOYMENTS)) / shares - 1) < NEAR


def test_what_a_model_takes_later_is_told_with_its_own_processes(http: HttpServer, wire: Wire) -> None:
    store(wire, "m")
    before = by_info(wire, "m")
    assert before > MB

    program = "import signal; much = bytearray(b'x' * 100_000_000); signal.pause()"
    wire.ask("AI.TENSORSET", "x", "STRING", 1, "VALUES", f"run subprocess.Popen([sys.executable, '-c', {program!r}])")
    assert wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"

    wait_until(lambda: by_info(wire, "m") > before + 90 * MB, timeout_s=SOON_S, what="what its process takes")
    (worker,) = workers_of(http.engine)
    worker.kill()
    wait_until(lambda: MB < by_info(wire, "m") < before + 50 * MB, timeout_s=SOON_S, what="what the next worker takes")


@needs_torch
def test_processes_of_other_models_are_told_by_their_share_too(http: HttpServer, wire: Wire) -> None:
    for name in "abcd":
        assert wire.ask("AI.MODELSTORE", name, "TORCH", "CPU", "BLOB", torch_with_weights(2**20)) == b"OK"
    framework = 60 * MB  # what each would take alone

    wait_until(
        lambda: MB < by_metrics(http, backend="TORCH") < 4 * framework, timeout_s=SOON_S, what="their share in metrics"
    )
    assert b"memory" not in wire.ask("AI.INFO", "a")  # type: ignore[operator]
