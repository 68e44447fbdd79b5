"""
The time limit of a call, from end to end, whatever it waits for.

Servers that send a byte now and then, servers that stand still, and models that hang while they are converted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient, deadline, errors, run_local
from mlflow_redisai.local import ports
from support.bad_line import TRICKLE, bad_line
from support.hostile_models import save_trap
from support.saved_models import save_multiplication
from support.servers import Server
from support.waiting import free_port, is_running, wait_until

Call = Callable[[RedisAIClient], object]

ROWS = np.array([[1.0, 2.0]], np.float32)
NAME = "limited:model"


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_multiplication(tmp_path_factory.mktemp("models") / "doubling", 2.0).uri


CALLS: dict[str, Callable[[str], Call]] = {
    "create": lambda uri: lambda client: client.create_deployment("limited:other", uri),
    "update": lambda uri: lambda client: client.update_deployment(NAME, uri),
    "update of options": lambda _: lambda client: client.update_deployment(NAME, config={"tag": "x"}),
    "delete": lambda _: lambda client: client.delete_deployment(NAME),
    "list": lambda _: lambda client: client.list_deployments(),
    "get": lambda _: lambda client: client.get_deployment(NAME),
    "predict": lambda _: lambda client: client.predict(NAME, ROWS),
}


@pytest.fixture(scope="module")
def deployed(engine: Server, doubling: str) -> Iterator[str]:
    client = RedisAIClient(engine.target)
    client.create_deployment(NAME, doubling)
    yield NAME
    client.delete_deployment(NAME)


def left(engine: Server) -> list[bytes]:
    return sorted(engine.client().scan_iter("*limited:*", count=1000))


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_answers_byte_by_byte_holds_no_call_for_longer(engine: Server, doubling: str, call: str) -> None:
    """Each byte comes well within the read timeout, so only a limit for the whole ends it."""
    before = left(engine)
    with bad_line(engine, TRICKLE, 1) as line, pytest.raises(errors.CallTimedOut) as caught:
        CALLS[call](doubling)(RedisAIClient(f"{line.target}?timeout=0.5"))

    assert " took longer than 0.5 s and was given up: " in caught.value.message
    assert caught.value.message.endswith("allow more with the parameter timeout of the target (seconds)")
    assert caught.value.error_code == "DEADLINE_EXCEEDED"
    assert left(engine) == before


@pytest.mark.slow
@pytest.mark.usefixtures("deployed")
def test_no_command_of_an_update_can_be_answered_for_ever(engine: Server) -> None:
    """Whichever command it is, the deployment is the old one, or the new one if the answer to EXEC came in time."""

    def update(target: str) -> None:
        RedisAIClient(f"{target}?timeout=1").update_deployment(NAME, config={"tag": "x"})

    before = left(engine)
    with bad_line(engine) as line:
        update(line.target)
    commands = [command[0] for command in line.commands]
    for number in range(1, len(commands) + 1):
        with bad_line(engine, TRICKLE, number) as line, suppress(errors.CallTimedOut):
            update(line.target)
        assert RedisAIClient(engine.target).predict(NAME, ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]
        assert [key for key in left(engine) if b":verify:" not in key] == before


@contextmanager
def standing_still(server: Server) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_server_that_stands_still_is_given_up(new_engine: Callable[..., Server], doubling: str) -> None:
    engine = new_engine()
    client = RedisAIClient(engine.target)
    client.create_deployment(NAME, doubling, config={"timeout": 60_000})
    limit = {"timeout": 700}

    with standing_still(engine):
        for call in (
            lambda: client.create_deployment("limited:other", doubling, config=limit),
            lambda: client.update_deployment(NAME, config=limit),
            lambda: client.delete_deployment(NAME, config=limit),
        ):
            with pytest.raises(errors.CallTimedOut, match=r"longer than 0.7 s .* allow more with -C timeout="):
                call()

    assert client.predict(NAME, ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]


def test_a_prediction_may_take_what_its_deployment_says(new_engine: Callable[..., Server], doubling: str) -> None:
    engine = new_engine()
    client = RedisAIClient(engine.target)
    client.create_deployment(NAME, doubling)
    RedisAIClient(f"{engine.target}?timeout=60").update_deployment(NAME, config={"timeout": 300})
    client.predict(NAME, ROWS)

    with standing_still(engine), pytest.raises(errors.CallTimedOut) as caught:
        client.predict(NAME, ROWS)

    assert caught.value.message == (
        f"the prediction with '{NAME}' took longer than 0.3 s and was given up: "
        "allow more with mlflow deployments update ... -C timeout=... (milliseconds)"
    )


def test_a_model_that_hangs_while_it_is_converted_is_given_up(engine: Server, tmp_path: Path) -> None:
    """The conversion's own limit is two minutes. Nothing of it stays."""
    model, before = save_trap("hang", tmp_path), left(engine)
    client = RedisAIClient(engine.target)
    # What the child has to import before it begins can take longer than a short limit.
    limits = (1000 * 2**power for power in range(8))

    while not (tmp_path / "processes").exists():
        with pytest.raises(errors.CallTimedOut) as caught:
            client.create_deployment("limited:hang", model, config={"timeout": next(limits)})

    assert "it had been converting the model for ONNX for " in caught.value.message
    started = [int(pid) for pid in (tmp_path / "processes").read_text().split()]
    wait_until(lambda: not any(map(is_running, started)), what="the end of what the model has started")
    assert left(engine) == before


def test_the_limit_of_the_target_is_that_of_the_call_and_the_option_that_of_predictions(
    engine: Server, doubling: str
) -> None:
    client = RedisAIClient(f"{engine.target}?timeout=300")

    created = client.create_deployment("limited:short", doubling, config={"timeout": 500})

    assert created["timeout"] == 500
    client.delete_deployment("limited:short")


def test_run_local_is_given_up_with_all_that_it_started(doubling: str, tmp_path: Path) -> None:
    with pytest.raises(errors.CallTimedOut, match=r"run-local of 'limited' took longer than 0.05 s .*starting the se"):
        run_local("limited", doubling, config={"port": 0, "timeout": 50, "data_dir": str(tmp_path / "data")})

    assert not (tmp_path / "data").exists()


def test_a_port_whose_owner_talks_without_end_is_not_listened_to_for_ever(engine: Server) -> None:
    limit = deadline.Limit("the question", 0.5, "")

    with bad_line(engine, TRICKLE, 1) as line, limit, pytest.raises(errors.CallTimedOut):
        ports.occupant(int(line.target.rpartition(":")[2]))


# -- the deadline itself


def test_of_two_limits_the_earlier_one_holds() -> None:
    with deadline.Limit("outer", 100, ""), deadline.Limit("inner", 1000, ""):
        left_now = deadline.at_most(None)
        assert left_now is not None
        assert 0 < left_now <= 100
        with deadline.Limit("innermost", 1, ""):
            assert deadline.at_most(50) <= 1  # type: ignore[operator]
        assert deadline.at_most(0.001) == 0.001


def test_cleaning_up_has_time_of_its_own() -> None:
    with deadline.Limit("call", 0, "cure"):
        with pytest.raises(errors.CallTimedOut, match="call took longer than 0 s and was given up: cure"):
            deadline.check()
        with deadline.for_cleaning_up():
            deadline.check()
        with pytest.raises(errors.CallTimedOut):
            deadline.check()


def test_without_a_limit_there_is_none() -> None:
    with deadline.Limit("call", None, ""):
        assert deadline.at_most(None) is None
        assert deadline.wait_ms(50) == 50
        assert deadline.waited_for(threading.get_ident) == threading.get_ident()


def test_what_never_ends_is_not_waited_for() -> None:
    limit, step = deadline.Limit("call", 0.2, ""), deadline.step("fetching the model")

    with limit, step, pytest.raises(errors.CallTimedOut, match=r"it had been fetching the model for \d"):
        deadline.waited_for(threading.Event().wait)


def test_what_is_waited_for_gives_its_result_or_its_error() -> None:
    with deadline.Limit("call", 100, ""):
        assert deadline.waited_for(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            deadline.waited_for(lambda: 1 // 0)


def test_a_port_that_nobody_listens_on_is_told_at_once() -> None:
    with pytest.raises(errors.ServerUnreachable):
        RedisAIClient(f"redisai://127.0.0.1:{free_port()}?timeout=60").list_deployments()
