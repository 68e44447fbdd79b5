"""Workers of Python models die, hang, print and eat: each is the error of one request, and no other client notices."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from redisai_engine.protocol.frames import ReplyError
from support.obedient import forerunners_of, guards_of, obedient, only_worker_of, workers_of
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until
from support.wire import Wire

LIMIT_MS = 2000
ANSWER_BYTES = 20_000_000
WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine
STORE = ["AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB"]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that stops runs after two seconds, and lets workers take 600 MiB, and answer with 20 MB."""
    memory = ("--worker-memory", str(600 * 2**20), "--tensor-limit", str(ANSWER_BYTES))
    limits = ("--model-execution-timeout", str(LIMIT_MS), *memory)
    engine = start_engine(tmp_path_factory.mktemp("python"), "--python-models", "yes", *limits)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def connection(serving: Server) -> Iterator[Wire]:
    with Wire(serving.port, timeout_s=WAIT_S) as wire:
        yield wire


def store(engine: Server, wire: Wire, **about: Any) -> None:
    """Store the model, and wait until workers of an older version have ended."""
    before = workers_of(engine)
    assert wire.ask(*STORE, obedient(**about)) == b"OK"
    wait_until(lambda: not any(is_running(worker.pid) for worker in before))


@pytest.fixture
def wire(serving: Server, connection: Wire) -> Wire:
    """A connection to the engine with the model, stored anew: it has one worker, and none of its workers has died."""
    store(serving, connection)
    return connection


def told(wire: Wire, command: str) -> object:
    """Have the model do something, and return its answer."""
    assert wire.ask("AI.TENSORSET", "x", "STRING", 1, "VALUES", command) == b"OK"
    reply = wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    if isinstance(reply, ReplyError):
        return reply.text
    answer = wire.ask("AI.TENSORGET", "y", "VALUES")
    assert isinstance(answer, list)
    return answer[0].decode()


def test_a_worker_that_dies_is_the_error_of_one_request(wire: Wire) -> None:
    for command, how in (
        ("exit 3", "ended with exit code 3"),
        (f"kill {int(signal.SIGSEGV)}", "ended by signal 11 (SIGSEGV)"),
        (f"kill {int(signal.SIGKILL)}", "ended by signal 9 (SIGKILL)"),
    ):
        assert told(wire, command) == f"ERR the model's process {how}; the next run starts another one"
        assert told(wire, "be well") == "be well"


def test_what_a_model_raises_is_told_and_costs_no_worker(serving: Server, wire: Wire) -> None:
    before = only_worker_of(serving)

    assert told(wire, "leave 3") == "ERR the model failed: SystemExit: 3"
    assert told(wire, "run 1 / 0") == "ERR the model failed: ZeroDivisionError: division by zero"

    assert workers_of(serving) == [before]


def test_a_worker_that_dies_between_runs_costs_no_request(serving: Server, wire: Wire) -> None:
    worker = only_worker_of(serving)

    worker.kill()
    wait_until(lambda: not psutil.pid_exists(worker.pid))  # all its threads have ended

    assert told(wire, "be well") == "be well"


def test_a_run_over_its_limit_ends_a_worker_that_ignores_sigterm(serving: Server, wire: Wire) -> None:
    worker = only_worker_of(serving)
    begin = time.monotonic()

    assert told(wire, "hang") == (
        "ERR the run takes longer than model-execution-timeout allows; its process was ended, and the next run starts "
        "another one"
    )
    wait_until(lambda: not is_running(worker.pid))

    assert time.monotonic() - begin >= LIMIT_MS / 1000
    assert told(wire, "be well") == "be well"


def test_memory_is_limited(serving: Server, wire: Wire) -> None:
    before = only_worker_of(serving)

    assert told(wire, "eat 100000000") == "100000000"
    assert told(wire, "eat 1000000000") == (
        "ERR the model failed: out of memory: worker-memory limits what a worker takes"
    )
    assert told(wire, "be well") == "be well"
    assert workers_of(serving) == [before]


#: Writes to the worker's only socket.
CHANNEL = (
    "[os.write(int(n), b'nonsense' * 9) for n in os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{n}') "
    "and os.readlink(f'/proc/self/fd/{n}').startswith('socket:')]"
)


def test_a_worker_that_answers_nonsense_or_too_much_is_ended(serving: Server, wire: Wire) -> None:
    """Each time, that is the error of one request."""
    for command in (f"run {CHANNEL}", f"run 'x' * {2 * ANSWER_BYTES}"):
        worker = only_worker_of(serving)
        assert "was ended because it answered nonsense" in str(told(wire, command))
        wait_until(lambda ended=worker: not is_running(ended.pid))  # type: ignore[misc]
        assert told(wire, "be well") == "be well"


def test_what_a_worker_prints_is_in_the_log_and_bounded(serving: Server, wire: Wire) -> None:
    assert told(wire, "print hello") == "print hello"
    log = serving.logged("the model says hello")
    assert "printed: the model says hello" in log

    assert told(wire, "flood 100000") == "flood 100000"
    assert "lines left out" in serving.logged("lines left out")
    assert len(serving.log.read_bytes()) < 1_000_000


def test_processes_that_a_model_has_started_end_with_its_worker(wire: Wire) -> None:
    """Even if they have a session of their own."""
    children = [int(str(told(wire, f"start {how}"))) for how in ("together", "alone")]
    assert all(map(is_running, children))

    told(wire, "exit 0")

    wait_until(lambda: not any(map(is_running, children)))


def test_a_worker_sees_nothing_of_the_engine(wire: Wire) -> None:
    names = str(told(wire, "run sorted(os.environ)"))
    assert "REDISAI" not in names
    assert "PYTEST" not in names

    assert told(wire, "run os.environ['HOME'] == os.environ['TMPDIR'] == os.getcwd()") == "True"
    assert (
        told(
            wire,
            "run sorted(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') "
            "if os.path.exists(f'/proc/self/fd/{n}') and 'redis' in os.readlink(f'/proc/self/fd/{n}'))",
        )
        == "[]"
    )
    status = "run [line.split()[1] for line in open('/proc/self/status') if line[:8] in ('NoNewPri', 'CapEff:\\t')]"
    assert told(wire, status) == "['0000000000000000', '1']"
    assert told(wire, "run os.getsid(0) == os.getpid()") == "True"


def test_a_model_whose_workers_keep_dying_has_failed_until_it_is_stored_anew(serving: Server, wire: Wire) -> None:
    answers = []
    while "has failed" not in str(answers[-1:]) and len(answers) < 20:
        answers.append(told(wire, "exit 1"))

    assert answers[-1] == "ERR the model has failed: its process has died 5 times within a minute; store it anew"
    assert told(wire, "be well") == answers[-1]
    wait_until(lambda: not workers_of(serving))
    assert wire.ask(*STORE, obedient()) == b"OK"
    assert told(wire, "be well") == "be well"


@pytest.mark.slow
def test_replicas_share_the_requests(new_engine: Callable[..., Server]) -> None:
    engine = new_engine("--python-models", "yes")
    with Wire(engine.port, timeout_s=WAIT_S) as first, Wire(engine.port, timeout_s=WAIT_S) as second:
        store(engine, first, replicas=2)
        wait_until(lambda: len(workers_of(engine)) == 2, timeout_s=WAIT_S)
        numbers = {told(first, "run os.getpid()") for _ in range(4)}
        wait_until(lambda: told(first, "run os.getpid()") not in numbers or len(numbers) == 2, timeout_s=WAIT_S)

        first.ask("AI.TENSORSET", "x", "STRING", 1, "VALUES", "wait 3")
        first.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "z")
        assert told(second, "be well") == "be well"
        first.receive()

    processes = [*guards_of(engine), *workers_of(engine)]
    assert len(processes) == 4
    engine.process.kill()
    wait_until(lambda: not any(is_running(process.pid) for process in processes))


@pytest.mark.slow
def test_idle_workers_stop_and_the_next_run_starts_one(new_engine: Callable[..., Server]) -> None:
    """Its start takes longer than a run may: waiting for it doesn't count."""
    limits = ("--worker-idle", "1", "--model-execution-timeout", "1000")
    engine = new_engine("--python-models", "yes", *limits)
    with Wire(engine.port, timeout_s=WAIT_S) as wire:
        store(engine, wire)
        assert told(wire, "be well") == "be well"

        wait_until(lambda: not guards_of(engine))
        wait_until(lambda: not forerunners_of(engine), what="the end of what they were forked from")

        assert told(wire, "be well") == "be well"
        assert len(forerunners_of(engine)) == 1


@pytest.mark.slow
def test_the_engine_stops_although_a_worker_ignores_signals(new_engine: Callable[..., Server]) -> None:
    engine = new_engine("--python-models", "yes", "--model-execution-timeout", "1000", "--shutdown-timeout", "10")
    with Wire(engine.port, timeout_s=WAIT_S) as wire:
        store(engine, wire)
        (worker,) = workers_of(engine)
        folder = psutil.Process(worker.pid).cwd()
        wire.ask("AI.TENSORSET", "x", "STRING", 1, "VALUES", "hang")
        wire.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")

        assert engine.stop() == 0

    assert not is_running(worker.pid)
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_model_that_takes_too_long_to_load_is_refused(new_engine: Callable[..., Server]) -> None:
    engine = new_engine("--python-models", "yes", "--worker-load-timeout", "20")
    with Wire(engine.port, timeout_s=WAIT_S) as wire:
        reply = wire.ask(*STORE, obedient())

        assert reply == ReplyError("ERR loading takes longer than 20 ms (worker-load-timeout)")
        wait_until(lambda: not workers_of(engine))
        assert wire.ask("EXISTS", "m") == 0
