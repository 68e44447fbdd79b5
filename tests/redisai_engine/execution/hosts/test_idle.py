"""What hosts are forked from is stopped when nothing has needed it for a while, and nobody notices."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from redisai_engine.backends.base import BackendSettings
from redisai_engine.execution.hosts.models import HostedBackend, HostLimits, StopHost
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.probation import Candidate, Probation
from redisai_engine.protocol.requests import encode
from support.gateway import model_blob
from support.hosts import parents_below, parents_of
from support.servers import start_engine
from support.waiting import wait_until
from support.wire import Wire

pytestmark = pytest.mark.slow

BLOB = model_blob("Add")
LIMITS = HostLimits(load_seconds=60, memory=2**31, at_once=1)
SETTINGS = BackendSettings()
STORES = 12  # of each thread
LARGE = 2**20


@pytest.fixture
def parent() -> Iterator[Parent]:
    """One that is stopped whenever nothing needs it."""
    parent = Parent("ONNX", idle_seconds=1e-6)
    yield parent
    parent.close()


def is_stopped(parent: Parent) -> bool:
    parent.look()
    return not parent.is_running


def processes() -> list[psutil.Process]:
    return parents_below(os.getpid())


def test_it_is_stopped_when_nothing_needs_it_and_started_again(parent: Parent) -> None:
    probation = Probation(parent, LIMITS)
    probation.passed(Candidate("first", "CPU", BLOB), SETTINGS)

    wait_until(lambda: is_stopped(parent), what="its end")
    wait_until(lambda: is_stopped(parent) and not processes(), what="the end of its process")

    assert probation.passed(Candidate("second", "CPU", BLOB), SETTINGS).danger == ""
    assert len(processes()) == 1


def test_it_stays_as_long_as_a_model_is_in_memory(parent: Parent) -> None:
    """Although the model's only host has been killed: the next run must have to wait for a fork only."""
    model = HostedBackend(parent, LIMITS).load(BLOB, "CPU", inputs=(), outputs=(), settings=SETTINGS)
    (process,) = processes()
    for host in process.children():
        host.kill()
        host.wait()

    assert not is_stopped(parent)

    two = np.array([2], np.float32)
    with pytest.raises(Exception, match=r"ended by signal 9"):
        model.run([two, two], StopHost())
    (sum_,) = model.run([two, two], StopHost())
    assert sum_ is not None
    assert sum_.tolist() == [4]
    assert processes() == [process]
    del model
    wait_until(lambda: is_stopped(parent), what="its end")


def test_without_a_time_it_stays() -> None:
    parent = Parent("ONNX")
    try:
        parent.start()

        assert not is_stopped(parent)
    finally:
        parent.close()


def test_nothing_is_lost_whenever_it_is_stopped(parent: Parent) -> None:
    """Two threads try models out while a third one stops it again and again, at every moment of a trial."""
    probation = Probation(parent, LIMITS)
    chance = random.Random(1)
    ended = threading.Event()
    stops: list[float] = []
    failures: list[Exception] = []

    def stop() -> None:
        while not ended.wait(chance.random() / 200):
            was_running = parent.is_running
            if is_stopped(parent) and was_running:
                stops.append(1)

    def store(name: str) -> None:
        try:
            for number in range(STORES):
                probation.passed(Candidate(f"{name} {number}", "CPU", BLOB), SETTINGS)
                ended.wait(chance.random() / 50)
        except Exception as error:
            failures.append(error)

    storers = [threading.Thread(target=store, args=(name,)) for name in ("a", "b")]
    stopper = threading.Thread(target=stop)
    for thread in (stopper, *storers):
        thread.start()
    for thread in storers:
        thread.join()
    ended.set()
    stopper.join()

    assert failures == []
    assert len(stops) > 1
    parent.close()
    assert processes() == []


def test_an_engine_stops_it_and_starts_it_again(tmp_path: Path) -> None:
    engine = start_engine(tmp_path, "--host-idle", "1")
    try:
        with Wire(engine.port) as wire:
            for operator in ("Add", "Mul"):
                assert wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", model_blob(operator)) == b"OK"
                assert len(parents_of(engine)) == 1
                wait_until(lambda: not parents_of(engine), what="its end")
            assert isinstance(wire.ask("AI.MODELGET", "m", "BLOB"), bytes)
    finally:
        engine.stop()


def test_it_is_started_when_a_large_model_begins_to_arrive(tmp_path: Path) -> None:
    """Not one that takes seconds and much memory, before it is known who may store."""
    engine = start_engine(tmp_path)
    try:
        with Wire(engine.port) as torch, Wire(engine.port) as onnx:
            for wire, backend in ((torch, b"TORCH"), (onnx, b"onnx")):
                wire.send_bytes(encode([b"ai.modelstore", b"m", backend, b"CPU", b"BLOB", bytes(LARGE)])[: LARGE // 2])

            (started,) = wait_until(lambda: parents_of(engine), what="its start")
            assert "ONNX" in started.cmdline()
    finally:
        engine.stop()


def test_a_client_without_a_login_starts_nothing(tmp_path: Path) -> None:
    """Arguments that are small enough for such a client are together as large as a part of a model."""
    engine = start_engine(tmp_path)
    whole = encode([b"AI.MODELSTORE", b"m", b"ONNX", *[bytes(16_000)] * 7])
    try:
        with Wire(engine.port) as admin, Wire(engine.port) as wire:
            assert admin.ask("ACL", "SETUSER", "default", "resetpass", ">secret") == b"OK"
            wire.send_bytes(whole[:-1])
            assert admin.ask("PING") == b"PONG"
            wire.send_bytes(whole[-1:])

            assert wire.receive().startswith(b"-NOAUTH")
            assert parents_of(engine) == []
    finally:
        engine.stop()
