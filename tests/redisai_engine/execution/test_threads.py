"""Runs of Python models without a thread that waits for each: they answer, fail and are stopped as others do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redisai_engine.protocol import parcels
from redisai_engine.protocol.frames import ReplyError, decode
from support.obedient import obedient, only_worker_of, workers_of
from support.servers import Server, start_engine
from support.waiting import accepts_connections, is_running, wait_until
from support.wire import Wire

LIMIT_MS = 2000
WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine
LONG = 1_000_000  # characters: more than the event loop reads or writes at once
STOPPED = "ERR the run takes longer than model-execution-timeout allows; its process was ended"
DIED = "ERR the model's process {}; the next run starts another one"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that stops runs after two seconds."""
    limit = ("--model-execution-timeout", str(LIMIT_MS))
    engine = start_engine(tmp_path_factory.mktemp("python"), "--python-models", *limit)
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    """A connection to the engine with a model of one worker, stored anew."""
    before = workers_of(serving)
    with Wire(serving.port, timeout_s=WAIT_S) as connection:
        store(connection)
        connection.ask("AI.MODELDEL", "other")
        wait_until(lambda: not any(is_running(worker.pid) for worker in before))
        yield connection


def store(wire: Wire, name: str = "m", **about: int) -> None:
    assert wire.ask("AI.MODELSTORE", name, "PYFUNC", "CPU", "BLOB", obedient(**about)) == b"OK"


def words(name: str, command: str, timeout_ms: int = 0) -> tuple[bytes | str | int, ...]:
    """Return a request that takes the fast path: its input is a parcel, not text."""
    parcel = parcels.pack([command])
    head = ("AI.DAGEXECUTE_RO", "ROUTING", name, *(("TIMEOUT", timeout_ms) if timeout_ms else ()))
    given = ("|>", "AI.TENSORSET", "x", "UINT8", len(parcel), "BLOB", parcel)
    run = ("|>", "AI.MODELEXECUTE", name, "INPUTS", 1, "x", "OUTPUTS", 1, "y", "|>", "AI.TENSORGET", "y", "BLOB")
    return (*head, *given, *run)


def read(reply: object) -> str:
    """Return the text of an answer, or of the error."""
    if isinstance(reply, list):
        errors = [element for element in reply if isinstance(element, ReplyError)]
        reply = errors[0] if errors else reply[-1]
    if isinstance(reply, ReplyError):
        return reply.text
    assert isinstance(reply, bytes)
    (answer,) = parcels.unpack(reply)[0]
    return str(answer)


def told(wire: Wire, command: str) -> str:
    return read(wire.ask(*words("m", command)))


def test_the_answer_is_the_models(wire: Wire) -> None:
    for _ in range(3):
        assert told(wire, "be well") == "be well"
    assert told(wire, "run 1 / 0") == "ERR the model failed: ZeroDivisionError: division by zero"


def test_what_is_long_is_answered_as_well(wire: Wire) -> None:
    assert told(wire, f"run 'x' * {LONG}") == "x" * LONG
    assert told(wire, "be " + "y" * LONG) == "be " + "y" * LONG
    assert told(wire, "be well") == "be well"


def test_a_worker_that_dies_is_the_error_of_its_request(wire: Wire) -> None:
    assert told(wire, "exit 3") == DIED.format("ended with exit code 3")
    assert told(wire, f"kill {int(signal.SIGKILL)}") == DIED.format("ended by signal 9 (SIGKILL)")
    assert told(wire, "be well") == "be well"


def test_a_worker_that_dies_between_runs_costs_no_request(serving: Server, wire: Wire) -> None:
    assert told(wire, "be well") == "be well"
    worker = only_worker_of(serving)

    worker.kill()
    wait_until(lambda: not is_running(worker.pid))

    assert told(wire, "be well") == "be well"


def test_a_run_over_its_limit_is_stopped(wire: Wire) -> None:
    begin = time.monotonic()

    assert told(wire, "hang").startswith(STOPPED)

    assert LIMIT_MS / 1000 <= time.monotonic() - begin < 2 * LIMIT_MS / 1000
    assert told(wire, "be well") == "be well"


def test_other_clients_are_served_meanwhile_and_a_timeout_is_for_waiting(serving: Server, wire: Wire) -> None:
    store(wire, "other")
    with Wire(serving.port, timeout_s=WAIT_S) as second:
        wire.send(*words("m", "wait 1"))
        begin = time.monotonic()
        assert read(second.ask(*words("other", "be well"))) == "be well"
        assert second.ask(*words("m", "be well", timeout_ms=200)) == b"TIMEDOUT"
        assert time.monotonic() - begin < 0.9
        assert read(decode(wire.receive())) == "wait 1"


def test_every_client_gets_its_own_answer_although_workers_are_killed(serving: Server, wire: Wire) -> None:
    store(wire, "m", replicas=2)
    wait_until(lambda: len(workers_of(serving)) == 2, timeout_s=WAIT_S)
    wrong: list[tuple[str, str]] = []

    def ask(client: int) -> None:
        with Wire(serving.port, timeout_s=WAIT_S) as own:
            for number in range(100):
                wanted = f"be {client} {number}"
                answer = told(own, wanted)
                if answer != wanted:
                    wrong.append((wanted, answer))

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for client in clients:
        client.start()
    workers_of(serving)[0].kill()
    for client in clients:
        client.join()

    assert [answer for _, answer in wrong] in ([], [DIED.format("ended by signal 9 (SIGKILL)")])


@pytest.mark.slow
def test_a_run_that_has_begun_is_answered_before_the_engine_ends(
    new_engine: Callable[..., Server], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    engine = new_engine("--python-models")
    stopping = threading.Thread(target=engine.stop)
    with Wire(engine.port, timeout_s=WAIT_S) as wire:
        store(wire)
        assert told(wire, "be well") == "be well"
        wire.send(*words("m", f"run open({str(gate)!r}).read()"))
        with gate.open("w") as file:  # waits for the run
            stopping.start()
            wait_until(lambda: not accepts_connections(engine.port), what="the beginning of the end")
            file.write("done")
        stopping.join()

        assert engine.process.returncode == 0
        assert read(decode(wire.receive())) == "done"
