"""
A connection that is cut anywhere in a call: the call is told in the log, succeeds, and has its effect once.

Every command of every call is cut before it, in the middle of it, after it, and in its reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Prepared
from mlflow_redisai.target import Target
from redisai_engine.codec.record import record_key
from support.bad_line import GONE, bad_line
from support.cut_calls import NAME, Deployed, cuts, prepared_at, store_at
from support.servers import Server, start_engine

ROWS = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine for these tests alone: a list takes a command for each deployment, and each is cut."""
    server = start_engine(tmp_path_factory.mktemp("engine"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def prepared(engine: Server, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared_at(engine, tmp_path_factory.mktemp("models") / "doubling")


@pytest.fixture
def deployed(engine: Server, prepared: Prepared) -> Iterator[Deployed]:
    found = Deployed(engine, prepared)
    yield found
    found.absent()


def test_a_create_succeeds_once(engine: Server, deployed: Deployed, caplog: pytest.LogCaptureFixture) -> None:
    """Never does it find itself: a create whose reply was lost doesn't end in "already exists"."""
    for _ in cuts(engine, deployed.absent, deployed.create):
        assert deployed.is_the_new_one()
        assert any("was lost" in message for message in caplog.messages)
        caplog.clear()


@pytest.mark.slow
def test_an_update_succeeds_once(engine: Server, deployed: Deployed) -> None:
    """Never does it take itself for another client's, whose update it must not undo."""
    for _ in cuts(engine, deployed.present, deployed.update):
        assert deployed.is_the_new_one()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["create", "update"])
def test_a_change_from_the_key_of_the_trial_succeeds_once(engine: Server, deployed: Deployed, change: str) -> None:
    before, call = {
        "create": (deployed.absent, deployed.create_from_trial),
        "update": (deployed.present, deployed.update_from_trial),
    }[change]

    for _ in cuts(engine, before, call):
        assert deployed.is_the_new_one()
        assert engine.client().pttl(NAME) == -1


@pytest.mark.slow
def test_a_deletion_succeeds_once(engine: Server, deployed: Deployed) -> None:
    """Never does it end in "no such deployment", because it was this deletion that removed it."""
    for _ in cuts(engine, deployed.present, deployed.delete):
        assert deployed.keys() == []


@pytest.mark.slow
def test_a_model_on_trial_leaves_nothing(engine: Server, deployed: Deployed) -> None:
    for _ in cuts(engine, deployed.absent, deployed.stage):
        assert deployed.keys() == []


@pytest.mark.slow
@pytest.mark.parametrize("call", ["get_deployment", "list_deployments", "predict"])
def test_reading_and_predicting_succeed(engine: Server, deployed: Deployed, call: str) -> None:
    deployed.present()
    arguments = {"get_deployment": (NAME,), "list_deployments": (), "predict": (NAME, ROWS)}[call]

    for _ in cuts(engine, lambda: None, lambda target: getattr(RedisAIClient(target), call)(*arguments)):
        pass


def test_a_server_that_refuses_connections_is_asked_once(
    new_redis: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = new_redis()
    server.stop()

    with pytest.raises(errors.ServerUnreachable):
        store_at(server.target).names()

    assert caplog.messages == []


def test_an_exec_that_comes_late_does_nothing_any_more(engine: Server, deployed: Deployed) -> None:
    """The connection of a change whose reply was lost may still be served: here its EXEC is sent after the change."""
    deployed.absent()
    connection = Connection(Target.parse(engine.target))
    with connection.transaction(NAME.encode()) as late:
        late.command("WATCH", NAME, record_key(NAME.encode()))
        late.queue([deployed.new.model.command(NAME.encode())])

        deployed.store._fence(NAME)

        assert late.execute() is None
    assert deployed.keys() == []


def test_an_outcome_that_nobody_knows_is_told(engine: Server, deployed: Deployed) -> None:
    deployed.absent()
    with bad_line(engine) as line:
        store_at(line.target).create(NAME, deployed.new)
    deployed.absent()

    with bad_line(engine, GONE, len(line.commands)) as line, pytest.raises(errors.UnknownOutcome) as caught:
        store_at(line.target).create(NAME, deployed.new)

    assert caught.value.message.endswith(
        "The change may have been made or not; once the server can be reached, get or list shows it."
    )
