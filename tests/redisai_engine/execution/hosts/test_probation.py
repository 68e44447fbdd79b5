"""An ONNX model is tried out in a process of its own before the engine's process loads it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import psutil
import pytest

from redisai_engine.execution.quarantine import digest_of
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis import store
from support import onnx_faults
from support.gateway import model_blob
from support.hosts import hosts_of, parents_of
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until
from support.wire import Wire

pytestmark = pytest.mark.slow

MEMORY = 512 * 2**20
GOOD = model_blob("Add")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that grants models on probation half a GiB."""
    engine = start_engine(tmp_path_factory.mktemp("probation"), "--host-memory", str(MEMORY))
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that has two seconds for a load."""
    engine = start_engine(tmp_path_factory.mktemp("hasty"), "--model-load-timeout", "2000")
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    with Wire(serving.port) as wire:
        yield wire


def stored(wire: Wire, key: str, blob: bytes) -> object:
    return wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", blob)


def added(wire: Wire, key: str) -> object:
    """Return what a model of two inputs, such as `GOOD`, says to 2 and 3, or the error."""
    for name, value in (("a", 2), ("b", 3)):
        wire.ask("AI.TENSORSET", name, "FLOAT", 1, "VALUES", value)
    reply = wire.ask("AI.MODELEXECUTE", key, "INPUTS", 2, "a", "b", "OUTPUTS", 1, "y")
    return wire.ask("AI.TENSORGET", "y", "VALUES") if reply == b"OK" else reply


def begun_trial(serving: Server, wire: Wire, blob: bytes) -> psutil.Process:
    """Send a model, and return the process in which it is tried out."""
    wait_until(lambda: not hosts_of(serving), what="the end of earlier trials")
    wire.send("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", blob)
    return wait_until(lambda: hosts_of(serving), what="a trial")[0]


def test_a_model_that_passes_is_served_by_the_engine_itself(serving: Server, wire: Wire) -> None:
    assert stored(wire, "m", model_blob("Max")) == b"OK"  # no other test's, which could have been tried out before

    assert added(wire, "m") == [b"3"]
    assert len(parents_of(serving)) == 1
    wait_until(lambda: not hosts_of(serving), what="the end of the trial")


def test_what_has_passed_is_not_tried_out_again(serving: Server, wire: Wire) -> None:
    stored(wire, "m", GOOD)
    for parent in parents_of(serving):
        parent.kill()
        wait_until(lambda pid=parent.pid: not is_running(pid), what="its end")  # type: ignore[misc]

    assert stored(wire, "again", GOOD) == b"OK"

    assert parents_of(serving) == []


def test_a_run_that_fails_is_no_reason_to_refuse_a_model(wire: Wire) -> None:
    """Only the client knows which shapes suit it."""
    assert stored(wire, "three", onnx_faults.failing_run()) == b"OK"


REFUSED = "ERR the model is refused: the process that tried it out "


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (onnx_faults.crashing_load, r"ended by signal 8 \(SIGFPE\)"),
        (onnx_faults.crashing_run, r"ended by signal 8 \(SIGFPE\)"),
        (lambda: onnx_faults.hungry_load(1, 2 * MEMORY), r"needed more memory than \d+ bytes \(host-memory\)"),
        (lambda: onnx_faults.hungry_load(100, MEMORY // 16), r"needed more memory than \d+ bytes \(host-memory\)"),
    ],
    ids=["crash at load", "crash at run", "one large constant", "many constants"],
)
def test_what_would_take_the_engine_down_is_refused(
    serving: Server, wire: Wire, make: Callable[[], bytes], why: str
) -> None:
    """The blob is refused at once when it comes again, under whatever key, and the log names it."""
    blob = make()
    digest = digest_of("ONNX", blob)

    first, second = stored(wire, "bad", blob), stored(wire, "other", blob)

    assert isinstance(first, ReplyError)
    assert re.fullmatch(re.escape(REFUSED) + why, first.text)
    assert isinstance(second, ReplyError)
    assert re.match(rf"ERR refused for another \d+ s: .* with digest {digest} {why}$", second.text)
    assert wire.ask("EXISTS", "bad", "other") == 0
    logged = re.compile(rf"the model with digest {digest} is refused for 600 s, .* {why}\n")
    wait_until(lambda: logged.search(serving.complaints()), what="the line in the log")
    assert stored(wire, "m", GOOD) == b"OK"
    assert added(wire, "m") == [b"5"]


@pytest.mark.parametrize(
    "make",
    [lambda: onnx_faults.slow_load(1000), lambda: onnx_faults.branching(13), onnx_faults.endless_run],
    ids=["folding", "branches", "run"],
)
def test_what_takes_too_long_is_refused(hasty: Server, make: Callable[[], bytes]) -> None:
    with Wire(hasty.port) as wire:
        reply = stored(wire, "slow", make())

    assert reply == ReplyError(REFUSED + "took longer than 2000 ms (model-load-timeout)")
    wait_until(lambda: not hosts_of(hasty), what="the end of the trial")


def test_others_are_served_while_a_model_is_tried_out(serving: Server, wire: Wire) -> None:
    """The trial lasts until this test ends its process, whose crash is then the error of its client."""
    trial = begun_trial(serving, wire, onnx_faults.slow_load(1001))

    with Wire(serving.port) as other:
        assert stored(other, "m", model_blob("Mul")) == b"OK"
        assert added(other, "m") == [b"6"]
        assert is_running(trial.pid)
        os.kill(trial.pid, signal.SIGSEGV)

    assert wire.receive() == f"-{REFUSED}ended by signal 11 (SIGSEGV)\r\n".encode()


def test_a_slow_load_in_the_engine_does_not_hold_up_a_short_one(serving: Server, wire: Wire) -> None:
    """It has passed its probation, so it takes as long again in the engine's process, in a thread for such models."""
    answered = []
    begun_trial(serving, wire, onnx_faults.slow_load(6, 3000))
    waiting = Thread(target=lambda: answered.append(("slow", wire.receive())))
    waiting.start()
    wait_until(lambda: not hosts_of(serving), what="the end of the trial")

    with Wire(serving.port) as other:
        answered.append(("short", stored(other, "m", model_blob("Sub"))))
    waiting.join()

    assert answered == [("short", b"OK"), ("slow", b"+OK\r\n")]


def test_the_end_of_a_trial_from_outside_says_nothing_about_the_model(serving: Server, wire: Wire) -> None:
    """Linux kills a process, too, when the machine is short of memory. So the model isn't refused later."""
    blob = onnx_faults.slow_load(1002)
    begun_trial(serving, wire, blob).kill()
    ended = "ERR the model can't be loaded: the process that tried it out ended by signal 9 (SIGKILL)"
    assert wire.receive() == f"-{ended}\r\n".encode()

    begun_trial(serving, wire, blob).kill()

    assert wire.receive() == f"-{ended}\r\n".encode()


def stored_past_the_engine(wire: Wire, key: str, blob: bytes) -> None:
    meta = store.ModelInfo("ONNX", "CPU", inputs=("x",), outputs=("y",), blob_size=len(blob))
    wire.ask("HSET", key, *[bytes(field) for field in store.model_fields(meta, blob)])


def test_what_redis_holds_is_tried_out_too(serving: Server, wire: Wire) -> None:
    """Whoever may write to Redis may have written it. AI.INFO says that it is refused."""
    bad = onnx_faults.crashing_load("held")
    stored_past_the_engine(wire, "held bad", bad)
    stored_past_the_engine(wire, "held good", onnx_faults.crashing_run(number=5))  # made-up inputs are 1
    wire.ask("AI.TENSORSET", "x", "INT64", 1, "VALUES", 7)

    good, refused = (
        wire.ask("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y") for key in ("held good", "held bad")
    )

    assert good == b"OK"
    assert refused == ReplyError(REFUSED + "ended by signal 8 (SIGFPE)")
    told = wire.ask("AI.INFO", "held bad")
    assert isinstance(told, list)
    assert told[-2] == b"refused"
    assert digest_of("ONNX", bad).encode() in told[-1]  # type: ignore[operator]
    wire.ask("DEL", "held good")  # served in a process of its own, which other tests would take for a trial


def test_trusted_models_are_not_tried_out(new_engine: Callable[..., Server]) -> None:
    engine = new_engine("--trusted-models")

    with Wire(engine.port) as wire:
        assert stored(wire, "m", GOOD) == b"OK"
        assert added(wire, "m") == [b"5"]

    assert parents_of(engine) == []


def test_a_model_that_asks_for_it_is_served_in_a_process_of_its_own(new_engine: Callable[..., Server]) -> None:
    """That process ends with a run that crashes it, and the engine does not. A copy of the key asks for it, too."""
    engine = new_engine("--trusted-models")

    with Wire(engine.port) as wire:
        blob = onnx_faults.crashing_run(number=5)
        assert wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "ISOLATE", "BLOB", blob) == b"OK"
        assert wire.ask("RESTORE", "copy", 0, wire.ask("DUMP", "m")) == b"OK"  # type: ignore[arg-type]
        (host,) = hosts_of(engine)
        for key in ("m", "copy"):
            told = wire.ask("AI.INFO", key)
            assert isinstance(told, list)
            assert told[-2:] == [b"isolate", b"yes"]

            wire.ask("AI.TENSORSET", "x", "INT64", 1, "VALUES", 7)
            assert wire.ask("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"
            wire.ask("AI.TENSORSET", "x", "INT64", 1, "VALUES", 5)
            assert wire.ask("AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y") == ReplyError(
                "ERR the model's process ended by signal 8 (SIGFPE); the next run starts another one"
            )

    assert not is_running(host.pid)
    assert "onnxruntime" not in Path(f"/proc/{engine.process.pid}/maps").read_text()
