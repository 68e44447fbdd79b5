"""What workers of one environment share: they are forked from one process, and are alone in everything else."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.python.forerunners import Forerunner
from redisai_engine.protocol.frames import ReplyError
from support.obedient import forerunners_of, guards_of, obedient, workers_of
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until
from support.wire import Wire

WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Server]:
    engine = start_engine(tmp_path, "--python-models", "yes")
    yield engine
    engine.stop()


def request(key: str, command: str) -> tuple[str | int, ...]:
    """Return the words of a request that has the model do something."""
    text = ("AI.TENSORSET", "x", "STRING", 1, "VALUES", command)
    run = ("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    return ("AI.DAGEXECUTE", "ROUTING", key, "|>", *text, "|>", *run, "|>", "AI.TENSORGET", "y", "VALUES")


def told(wire: Wire, key: str, command: str) -> str:
    """Have the model do something, and return its answer."""
    reply = wire.ask(*request(key, command))
    assert isinstance(reply, list)
    errors = [part.text for part in reply if isinstance(part, ReplyError)]
    return errors[0] if errors else reply[-1][0].decode()


def test_workers_of_an_environment_are_forked_from_one_process(serving: Server) -> None:
    with Wire(serving.port, timeout_s=WAIT_S) as wire:
        for key in "ab":
            assert wire.ask("AI.MODELSTORE", key, "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
        (forerunner,) = forerunners_of(serving)
        assert {guard.ppid() for guard in guards_of(serving)} == {forerunner.pid}
        assert len(workers_of(serving)) == 2

        folders = "run [os.getcwd(), os.environ['HOME'], os.environ['TMPDIR'], __import__('tempfile').gettempdir()]"
        own = {key: set(eval(told(wire, key, folders))) for key in "ab"}
        assert all(len(each) == 1 for each in own.values()), own
        assert own["a"] != own["b"]
        random = "run __import__('numpy').random.random()"
        assert told(wire, "a", random) != told(wire, "b", random)

        forerunner.kill()
        wait_until(lambda: not forerunners_of(serving))
        assert [told(wire, key, "be well") for key in "ab"] == ["be well", "be well"], "workers don't depend on it"
        assert "ended by signal 9" in told(wire, "a", "kill 9")
        assert told(wire, "a", "be well") == "be well"
        (after,) = forerunners_of(serving)
        assert after.pid != forerunner.pid

        for key in "ab":
            assert wire.ask("AI.MODELDEL", key) == b"OK"
        wait_until(lambda: not is_running(after.pid), what="the end of what no model needs")


def test_a_worker_killed_under_load_fails_its_own_request_alone(serving: Server, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        wire, *others = (stack.enter_context(Wire(serving.port, timeout_s=WAIT_S)) for _ in range(9))
        assert wire.ask("AI.MODELSTORE", "a", "PYFUNC", "CPU", "BLOB", obedient()) == b"OK"
        (forerunner,), (worker,) = forerunners_of(serving), workers_of(serving)
        begun = tmp_path / "begun"
        wire.send(*request("a", f"run [open({str(begun)!r}, 'w').close(), __import__('signal').pause()]"))
        wait_until(begun.exists)
        for number, other in enumerate(others):
            other.send(*request("a", f"be {number}"))

        worker.kill()

        assert b"ended by signal 9 (SIGKILL)" in wire.receive()
        assert [other.receive().split(b"\r\n")[-2] for other in others] == [b"be %d" % number for number in range(8)]
    processes = [forerunner, *guards_of(serving), *workers_of(serving)]
    serving.process.kill()
    wait_until(lambda: not any(is_running(process.pid) for process in processes), what="the end of all, as orphans")


@pytest.fixture
def forerunner(tmp_path: Path) -> Iterator[Callable[[str], tuple[Forerunner, list[subprocess.Popen[bytes]]]]]:
    """Returns a forerunner whose process runs other code, given it, and the processes that it has started."""
    made: list[Forerunner] = []

    def make(code: str) -> tuple[Forerunner, list[subprocess.Popen[bytes]]]:
        started: list[subprocess.Popen[bytes]] = []

        def begin(control: socket.socket) -> subprocess.Popen[bytes]:
            program = f"import socket; control = socket.socket(fileno={control.fileno()}); {code}"
            command = [sys.executable, "-c", program]
            started.append(subprocess.Popen(command, pass_fds=[control.fileno()], cwd=tmp_path))
            return started[-1]

        made.append(Forerunner("python", begin))
        return made[-1], started

    yield make
    for each in made:
        each.close()


UNFIT = {
    "threads": "control.send(b'{\"threads\": 2}'); control.recv(1)",
    "failed imports": 'control.send(b\'{"failed": "ImportError: no"}\'); control.recv(1)',
    "an end": "raise SystemExit(3)",
    "nonsense": "control.send(b'[]'); control.recv(1)",
}


@pytest.mark.parametrize("code", UNFIT.values(), ids=UNFIT)
def test_a_process_that_must_not_be_forked_is_not_used(forerunner: Callable[..., Any], code: str) -> None:
    subject, started = forerunner(code)

    assert not subject.is_ready()
    assert not subject.is_ready(), "and isn't tried again"

    assert subject.fork({}, [0, 0, 0, 0]) is None
    (process,) = started
    assert process.poll() is not None


READY = "control.send(b'{\"threads\": 1}'); "


def test_one_that_dies_before_it_forks_is_replaced(forerunner: Callable[..., Any]) -> None:
    """One that was killed may still take what it is sent. Nobody has the sockets then, so another one may get them."""
    subject, started = forerunner(f"{READY} control.recv(1)")

    with pytest.raises(ModelLoadError, match=r"the process that starts workers with python has failed \(it has ended"):
        subject.fork({}, [0, 0, 0, 0])

    assert [process.poll() for process in started] == [0, 0]
    assert subject.is_ready()


def test_one_that_may_have_forked_is_the_error_of_one_start(forerunner: Callable[..., Any], tmp_path: Path) -> None:
    """The guard has the sockets, which aren't given to another one."""
    subject, started = forerunner(
        f"{READY} import os, signal; socket.recv_fds(control, 99, 9); guard = os.fork(); "
        "guard or (control.close(), signal.pause()); open('guard', 'w').write(str(guard))"
    )

    with pytest.raises(ModelLoadError, match=r"the process that starts workers with python has failed \(it has ended"):
        subject.fork({}, [0, 0, 0, 0])

    (process,) = started
    assert process.poll() is not None
    os.kill(int((tmp_path / "guard").read_text()), signal.SIGKILL)
