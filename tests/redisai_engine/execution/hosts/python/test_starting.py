"""How workers are started: with which rights, variables and folders."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.frames import ALONE, Channel
from redisai_engine.execution.hosts.python import program as program_module
from redisai_engine.execution.hosts.python.program import WorkerChannel
from redisai_engine.execution.hosts.python.starting import Interpreter, Starting
from redisai_engine.users import ModelUser
from support.yields import count_yields

LONG = 3600.0  # seconds; longer than any test


class Printed:
    """Takes what one worker prints."""

    def __init__(self) -> None:
        self._reading = -1

    def open(self, prefix: str) -> int:
        self._reading, writing = os.pipe()
        return writing

    def all(self) -> str:
        with open(self._reading) as pipe:
            return pipe.read()


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def printed_by(python: Path, user: ModelUser | None = None) -> list[str]:
    """Return the lines that a program prints which is started as a worker's Python."""
    printed = Printed()
    starting = Starting(printed.open, most_answer=1, user=user)
    left, right = socket.socketpair()
    with left, right, tempfile.TemporaryFile() as blob:
        try:
            Interpreter(starting, str(python), None).fork(left, right, blob.fileno(), memory=0, gpu=False)
            return printed.all().splitlines()
        finally:
            starting.close()


def program(folder: Path, *lines: str) -> Path:
    path = folder / "python"
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start processes of other users")
def test_workers_can_have_the_rights_of_another_user(everybodys: Path) -> None:
    nobody = ModelUser.named("nobody")
    assert nobody is not None

    lines = printed_by(program(everybodys, "id -u", "id -g", "id -G", "stat -c '%u %a' .", "umask"), nobody)

    assert lines == [str(nobody.id), str(nobody.group), str(nobody.group), f"{nobody.id} 700", "0077"]


def test_workers_get_few_variables(everybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDISAI_ENGINE_REDIS", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    lines = printed_by(program(everybodys, "env"))

    assert not any("secret" in line for line in lines)
    assert "OMP_NUM_THREADS=3" in lines
    assert "MLFLOW_DISABLE_TELEMETRY=true" in lines


def test_folders_of_workers_are_removed(everybodys: Path) -> None:
    (folder,) = printed_by(program(everybodys, "pwd"))

    assert not Path(folder).parent.exists()


def test_a_python_that_cannot_be_started_is_named(everybodys: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"can't be started with .*/none: No such file or directory"):
        printed_by(everybodys / "none")


@pytest.mark.parametrize("asked", [None, ALONE])
def test_both_sides_understand_each_other(asked: object) -> None:
    """The worker's own implementation of frames, and the engine's."""
    import numpy as np

    values = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(["a", "", "é"], object),
        np.zeros((0, 2), np.int64),
    ]
    left, right = socket.socketpair()
    with left, right:
        ours, theirs = Channel(left), WorkerChannel(right)
        ours.send(asked, values)
        received = theirs.receive()
        theirs.send({"x": 1}, received[1])
        message, back = ours.receive(30)

    assert received[0] is asked
    assert message == {"x": 1}
    for sent, returned in zip(values, back, strict=True):
        assert returned is not None
        assert (returned.dtype, returned.shape) == (sent.dtype, sent.shape)
        assert returned.tolist() == sent.tolist()


@pytest.fixture
def asked() -> Iterator[tuple[Channel, WorkerChannel]]:
    """Both ends of a channel, the second one a worker's that has been asked again at once."""
    left, right = socket.socketpair()
    with left, right:
        ours, theirs = Channel(left), WorkerChannel(right, LONG)
        theirs.send(None)
        ours.receive(30)
        ours.send(ALONE)
        theirs.receive()
        yield ours, theirs


def test_a_worker_polls_for_the_next_request_if_it_may_come_soon(
    asked: tuple[Channel, WorkerChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = asked
    yields = count_yields(monkeypatch, lambda: ours.send(None))

    assert theirs.receive(stay_awake=True) == (None, [])
    assert len(yields) == 1
    ours.send(ALONE)
    assert theirs.receive(stay_awake=False) == (ALONE, [])
    assert len(yields) == 1


def test_a_worker_whose_core_others_need_sleeps_for_a_while(
    asked: tuple[Channel, WorkerChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = asked
    monkeypatch.setattr(program_module, "_CONTENDED_SECONDS", 0.0)  # whatever a poll takes is long
    monkeypatch.setattr(program_module, "_REST_SECONDS", LONG)
    yields = count_yields(monkeypatch, lambda: ours.send(None))

    assert theirs.receive(stay_awake=True) == (None, [])
    ours.send(None)
    assert theirs.receive(stay_awake=True) == (None, [])

    assert len(yields) == 1


def test_a_worker_whose_client_pauses_does_not_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = socket.socketpair()
    with left, right:
        ours, theirs = Channel(left), WorkerChannel(right, 0.0)
        yields = count_yields(monkeypatch)
        for _ in range(3):
            theirs.send(None)
            ours.send(ALONE)
            assert theirs.receive(stay_awake=True) == (ALONE, [])

    assert not yields
