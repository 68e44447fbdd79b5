"""What the workers of Python models reach, what holds for the processes that they start, and what a copy has alone."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redisai_engine.protocol.frames import ReplyError
from support.obedient import obedient, workers_of
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until
from support.wire import Wire

WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine
PAUSE_S = 4.0


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limit = ("--worker-memory", str(600 * 2**20))
    engine = start_engine(tmp_path_factory.mktemp("python"), "--python-models", *limit)
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    """A connection to the engine with the model `{m}`, and no other one."""
    with Wire(serving.port, timeout_s=WAIT_S) as connection:
        connection.ask("FLUSHALL")
        wait_until(lambda: not workers_of(serving))
        assert connection.ask("AI.MODELSTORE", "{m}", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
        yield connection


def told(wire: Wire, command: str, key: str = "{m}") -> str:
    """Have a model do something, and return its answer."""
    text = ("AI.TENSORSET", "x", "STRING", 1, "VALUES", command)
    run = ("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    reply = wire.ask("AI.DAGEXECUTE", "ROUTING", key, "|>", *text, "|>", *run, "|>", "AI.TENSORGET", "y", "VALUES")
    assert isinstance(reply, list)
    errors = [part.text for part in reply if isinstance(part, ReplyError)]
    return errors[0] if errors else reply[-1][0].decode()


def test_a_worker_can_use_the_network(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        port = listener.getsockname()[1]
        connect = f"run __import__('socket').create_connection(('127.0.0.1', {port})).send(b'hello')"
        assert told(wire, connect) == "5"
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(16) == b"hello"


def test_a_worker_reads_and_writes_what_its_user_may_and_nothing_else(wire: Wire, tmp_path: Path) -> None:
    """A worker of root's has none of root's powers: what nobody may read it can't, either."""
    (tmp_path / "open").write_text("for all")
    (tmp_path / "closed").write_text("for nobody")
    (tmp_path / "closed").chmod(0)

    assert told(wire, f"run open({str(tmp_path / 'open')!r}).read()") == "for all"
    assert told(wire, f"run open({str(tmp_path / 'new')!r}, 'w').write('a model was here')") == "16"
    assert (tmp_path / "new").read_text() == "a model was here"
    for mode in ("r", "w"):
        answer = told(wire, f"run open({str(tmp_path / 'closed')!r}, {mode!r})")
        assert answer.startswith("ERR the model failed: PermissionError: ")


def in_a_child(code: str) -> str:
    """Return a command that runs a program in a process of the worker's, and answers with what that prints, or why."""
    run = f"subprocess.run([sys.executable, '-I', '-c', {code!r}], capture_output=True, text=True)"
    return f"run (lambda done: done.stdout or done.stderr)({run}).strip().splitlines()[-1]"


def test_the_limits_of_a_worker_hold_for_the_processes_that_it_starts(wire: Wire) -> None:
    assert told(wire, in_a_child("print(len(bytearray(10**8)))")) == "100000000"
    assert told(wire, in_a_child("print(len(bytearray(3 * 10**9)))")) == "MemoryError"

    limits = "import resource as r; print([r.getrlimit(n) for n in (r.RLIMIT_DATA, r.RLIMIT_CORE)])"
    own = "run [__import__('resource').getrlimit(n) for n in (2, 4)]"  # Linux' numbers of these two
    assert told(wire, in_a_child(limits)) == told(wire, own)
    raised = "import resource as r; r.setrlimit(r.RLIMIT_DATA, (-1, -1))"
    assert told(wire, in_a_child(raised)).startswith("ValueError: not allowed to raise maximum limit")
    status = "print([line.split()[1] for line in open('/proc/self/status') if line[:8] in ('NoNewPri', 'CapEff:\\t')])"
    assert told(wire, in_a_child(status)) == "['0000000000000000', '1']"


def test_a_copy_of_a_model_has_workers_of_its_own(serving: Server, wire: Wire) -> None:
    """They start when it is used, are replaced when they die, and stay when the first model is gone."""
    first = told(wire, "run os.getpid()")

    copied = [wire.ask(*words) for words in (("MULTI",), ("COPY", "{m}", "{m}copy"), ("EXEC",))]
    assert copied == [b"OK", b"QUEUED", [1]]
    second = told(wire, "run os.getpid()", "{m}copy")

    assert second != first
    assert told(wire, "exit 1", "{m}copy").startswith("ERR the model's process ended with exit code 1")
    third = told(wire, "run os.getpid()", "{m}copy")
    assert third not in (first, second)
    assert told(wire, "run os.getpid()") == first
    assert wire.ask("DEL", "{m}") == 1
    wait_until(lambda: not is_running(int(first)))
    assert told(wire, "run os.getpid()", "{m}copy") == third


@pytest.fixture
def patient(tmp_path: Path, new_engine: Callable[..., Server]) -> Server:
    """An engine whose shortest pause before a restart is so long that clients are told of it."""
    (tmp_path / "sitecustomize.py").write_text(
        f"from redisai_engine.execution.hosts import restarts\nrestarts._SHORTEST = {PAUSE_S}\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return new_engine("--python-models", environment={"PYTHONPATH": path})


def test_clients_are_told_of_a_long_pause_and_served_behind_it(patient: Server) -> None:
    with Wire(patient.port, timeout_s=WAIT_S) as wire:
        assert wire.ask("AI.MODELSTORE", "{m}", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
        assert "ended with exit code 1" in told(wire, "exit 1")
        assert told(wire, "be well") == "be well"
        begin = time.monotonic()
        assert "ended with exit code 1" in told(wire, "exit 1")

        answer = told(wire, "be well")

        found = re.fullmatch(r"ERR the model's process keeps dying; it is started again in (\d\.\d) s", answer)
        assert found is not None, answer
        assert 1.0 <= float(found[1]) <= PAUSE_S
        wait_until(lambda: told(wire, "be well") == "be well", timeout_s=WAIT_S)
        assert time.monotonic() - begin >= PAUSE_S
