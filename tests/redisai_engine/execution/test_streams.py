"""Streams of answers over RESP: item by item, as the client asks, and the worker is free whatever becomes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from redisai_engine.protocol.frames import ReplyError
from support.obedient import archive, saved_code
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until
from support.wire import Wire

WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine
LIMIT_MS = 2000
OVER_LIMIT = (
    "ERR the run takes longer than model-execution-timeout allows; its process was ended, and the next run starts "
    "another one"
)
#: It yields so many items, then does what it is told. At the end it leaves a file, if that has a name.
STREAMER = """
    import os, signal, time
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Streamer(PythonModel):
        def predict(self, context, model_input, params=None):
            return [str(os.getpid())]

        def predict_stream(self, context, model_input, params=None):
            what, number, *path = model_input.split(" ")
            made = 0
            try:
                for made in range(int(number)):
                    if what == "slow" and made:
                        time.sleep(0.2)  # an item takes time, in which its client goes
                    yield f"item {made}" if what != "large" else "x" * 1_000_000
                if what == "fail":
                    raise ValueError("no more of them")
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if what == "hang":
                    signal.pause()
                if what == "odd":
                    yield object()
            finally:
                if path:
                    with open(path[0], "w") as file:
                        file.write(f"closed after {made}")

    mlflow.models.set_model(Streamer())
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine with the model, which has one worker."""
    limits = ("--model-execution-timeout", str(LIMIT_MS), "--stream-timeout", "30000")
    engine = start_engine(tmp_path_factory.mktemp("streams"), "--python-models", "yes", *limits)
    with Wire(engine.port, timeout_s=WAIT_S) as wire:
        store(wire)
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    with Wire(serving.port, timeout_s=WAIT_S) as wire:
        yield wire


def store(wire: Wire) -> None:
    assert wire.ask("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", archive(saved_code(STREAMER))) == b"OK"


def began(wire: Wire, told: str, *more: str | int, key: str = "m") -> object:
    return shown(wire.ask("AI.MODELSTREAM", key, *more, "STRING", 1, "VALUES", told))


def following(wire: Wire, key: str = "m") -> object:
    return shown(wire.ask("AI.STREAMNEXT", key))


def shown(reply: object) -> object:
    """Return an item's text, None at the end, or an error's text."""
    if isinstance(reply, ReplyError):
        return reply.text
    if not isinstance(reply, list):
        return reply
    (output,) = reply
    assert output[:5] == [b"dtype", b"STRING", b"shape", [], b"blob"]
    return output[5].removesuffix(b"\0").decode()


def worker_of(wire: Wire) -> psutil.Process:
    """Return the model's worker, which must do nothing else."""
    assert_free(wire)
    return psutil.Process(int(wire.ask("AI.TENSORGET", "y", "VALUES")[0]))  # type: ignore[index,arg-type]


def assert_free(wire: Wire) -> None:
    """Run the model, whose only worker must do nothing else."""
    assert wire.ask("AI.TENSORSET", "x", "STRING", 1, "VALUES", "x") == b"OK"
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y", "TIMEOUT", int(WAIT_S * 1000))
    assert wire.ask(*run) == b"OK"


def test_items_come_one_by_one_and_null_at_the_end(wire: Wire) -> None:
    assert began(wire, "count 3") == "item 0"
    assert [following(wire) for _ in range(4)] == ["item 1", "item 2", None, None]
    assert_free(wire)


def test_an_empty_stream_is_null_at_once_in_both_protocols(serving: Server) -> None:
    for protocol, null in ((2, b"$-1\r\n"), (3, b"_\r\n")):
        with Wire(serving.port, protocol=protocol, timeout_s=WAIT_S) as wire:
            assert wire.raw("AI.MODELSTREAM", "m", "STRING", 1, "VALUES", "count 0") == null
            assert wire.raw("AI.STREAMNEXT", "m") == null


def test_items_can_be_asked_for_ahead(wire: Wire) -> None:
    wire.send("AI.MODELSTREAM", "m", "STRING", 1, "VALUES", "count 3")
    for _ in range(3):
        wire.send("AI.STREAMNEXT", "m")
    wire.send("ECHO", "behind")

    replies = [wire.receive() for _ in range(5)]

    assert [reply[-8:] for reply in replies[:3]] == [f"item {number}\0\r\n".encode()[-8:] for number in range(3)]
    assert replies[3:] == [b"$-1\r\n", b"$6\r\nbehind\r\n"]


def test_an_error_comes_behind_the_items_before_it_and_costs_no_worker(wire: Wire) -> None:
    before = worker_of(wire)

    assert began(wire, "fail 2") == "item 0"
    assert following(wire) == "item 1"
    for _ in range(2):
        assert following(wire) == "ERR the model failed: ValueError: no more of them"

    assert began(wire, "odd 0") == "ERR output output has elements of the types object, which no tensor can hold"
    assert_free(wire)
    assert worker_of(wire) == before


def test_the_generator_is_closed_when_its_stream_is_ended(wire: Wire, tmp_path: Path) -> None:
    """By its end, and by another stream, which waits for the worker."""
    assert began(wire, f"count 9 {tmp_path}/ended") == "item 0"
    assert wire.ask("AI.STREAMEND", "m") == b"OK"
    assert (tmp_path / "ended").read_text() == "closed after 0"
    assert following(wire) == "ERR this connection has no stream of this key; AI.MODELSTREAM begins one"

    assert began(wire, f"count 9 {tmp_path}/replaced") == "item 0"
    assert following(wire) == "item 1"
    assert began(wire, "count 2") == "item 0"
    assert (tmp_path / "replaced").read_text() == "closed after 1"
    assert following(wire) == "item 1"
    assert wire.ask("RESET") == b"RESET"
    assert_free(wire)


def test_the_generator_is_closed_when_its_client_goes(serving: Server, wire: Wire, tmp_path: Path) -> None:
    """Between two items, and while it waits for one."""
    with Wire(serving.port, timeout_s=WAIT_S) as other:
        assert began(other, f"count 9 {tmp_path}/idle") == "item 0"
    wait_until((tmp_path / "idle").exists)
    assert_free(wire)

    with Wire(serving.port, timeout_s=WAIT_S) as other:
        assert began(other, f"slow 9 {tmp_path}/busy") == "item 0"
        other.send("AI.STREAMNEXT", "m")
        other.send("AI.STREAMNEXT", "m")
    wait_until((tmp_path / "busy").exists)
    assert_free(wire)


def test_a_stream_goes_on_with_the_model_that_it_began_with(wire: Wire, tmp_path: Path) -> None:
    """Replaced and deleted meanwhile."""
    assert began(wire, "count 4") == "item 0"
    store(wire)
    assert following(wire) == "item 1"
    assert wire.ask("AI.MODELDEL", "m") == b"OK"
    assert [following(wire) for _ in range(3)] == ["item 2", "item 3", None]

    store(wire)
    assert began(wire, f"count 4 {tmp_path}/left") == "item 0"
    assert isinstance(wire.ask("AUTH", "no", "password"), ReplyError)
    wait_until((tmp_path / "left").exists)
    assert str(following(wire)).startswith("ERR this connection has no stream")


def test_each_item_is_a_run(wire: Wire) -> None:
    assert wire.ask("AI.INFO", "m", "RESETSTAT") == b"OK"
    assert began(wire, "count 3") == "item 0"
    assert [following(wire) for _ in range(2)] == ["item 1", "item 2"]
    fields = wire.ask("AI.INFO", "m")
    assert isinstance(fields, list)
    assert fields[fields.index(b"calls") + 1] == 3


def test_nothing_is_made_ahead_of_a_client_that_does_not_ask(wire: Wire, tmp_path: Path) -> None:
    assert began(wire, f"count 1000 {tmp_path}/file") == "item 0"
    assert wire.ask("AI.STREAMEND", "m") == b"OK"
    assert (tmp_path / "file").read_text() == "closed after 0"


def test_items_may_be_large(wire: Wire) -> None:
    assert began(wire, "large 3") == "x" * 1_000_000
    assert [following(wire) for _ in range(3)] == ["x" * 1_000_000] * 2 + [None]


def test_a_worker_that_is_killed_ends_its_stream(wire: Wire) -> None:
    worker = worker_of(wire)
    died = "ERR the model's process ended by signal 9 (SIGKILL); the next run starts another one"
    assert began(wire, "count 9") == "item 0"
    worker.kill()
    wait_until(lambda: not is_running(worker.pid))
    assert following(wire) == died
    assert following(wire) == died

    assert began(wire, "kill 1") == "item 0"
    assert following(wire) == died
    assert_free(wire)


def test_an_item_that_takes_too_long_ends_its_stream(wire: Wire) -> None:
    assert began(wire, "hang 2") == "item 0"
    assert following(wire) == "item 1"
    assert following(wire) == OVER_LIMIT
    assert_free(wire)


def test_others_wait_for_the_worker_no_longer_than_their_timeout(serving: Server, wire: Wire) -> None:
    assert_free(wire)
    assert began(wire, "count 2") == "item 0"
    with Wire(serving.port, timeout_s=WAIT_S) as other:
        assert began(other, "count 1", "TIMEOUT", 50) == b"TIMEDOUT"
        assert other.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y", "TIMEOUT", 50) == b"TIMEDOUT"
        assert other.ask("AI.STREAMNEXT", "m") == ReplyError(
            "ERR this connection has no stream of this key; AI.MODELSTREAM begins one"
        )
        other.send("AI.MODELSTREAM", "m", "STRING", 1, "VALUES", "count 1")
        assert [following(wire), following(wire)] == ["item 1", None]
        assert shown_raw(other.receive()) == "item 0"
        assert_free(wire) if following(other) is None else pytest.fail("the stream has another item")


def shown_raw(reply: bytes) -> str:
    return reply.rsplit(b"\r\n", 2)[-2].removesuffix(b"\0").decode()


def test_a_client_that_asks_for_nothing_loses_its_stream(new_engine: Callable[..., Server], tmp_path: Path) -> None:
    engine = new_engine("--python-models", "yes", "--stream-timeout", "200")
    with Wire(engine.port, timeout_s=WAIT_S) as slow:
        store(slow)
        assert began(slow, f"count 9 {tmp_path}/file") == "item 0"
        wait_until((tmp_path / "file").exists)
        assert following(slow) == (
            "ERR the stream was ended, because nothing was asked of it for 200 ms (stream-timeout)"
        )


def test_what_cannot_stream_says_so(wire: Wire) -> None:
    assert began(wire, "x", key="none") == "ERR model key is empty"
    assert shown(wire.ask("AI.MODELSTREAM", "m", "TIMEOUT", 5)) == "ERR invalid data type"
    assert wire.ask("AI.STREAMEND", "m") == ReplyError(
        "ERR this connection has no stream of this key; AI.MODELSTREAM begins one"
    )


def test_a_transaction_has_no_streams(wire: Wire) -> None:
    assert wire.ask("MULTI") == b"OK"
    assert wire.ask("AI.MODELSTREAM", "m", "STRING", 1, "VALUES", "count 1") == b"QUEUED"
    assert wire.ask("AI.STREAMNEXT", "m") == b"QUEUED"
    refused = ReplyError("ERR Cannot run RedisAI command within a transaction or a LUA script")
    assert wire.ask("EXEC") == [refused, refused]


def test_a_user_who_may_not_read_the_model_gets_no_stream(serving: Server, wire: Wire) -> None:
    user = f"reader{os.getpid()}"
    assert wire.ask("ACL", "SETUSER", user, "on", ">secret", "~other*", "+@all") == b"OK"
    with Wire(serving.port, timeout_s=WAIT_S) as other:
        assert began(other, "count 3") == "item 0"
        assert other.ask("AUTH", user, "secret") == b"OK"
        assert following(other) == "ERR this connection has no stream of this key; AI.MODELSTREAM begins one"
        assert str(began(other, "count 3")).startswith("NOPERM")
    assert_free(wire)
