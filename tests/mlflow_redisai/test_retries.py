"""
A connection that is cut anywhere in a call: the call is told in the log, succeeds, and has its effect once.

Every command of every call is cut before it, in the middle of it, after it, and in its reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.deploy.prepare import Order
from mlflow_redisai.server import facts
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Deployments, Prepared
from mlflow_redisai.server.record import Record
from mlflow_redisai.target import Target
from redisai_engine.codec.record import record_key
from support.bad_line import CUTS, GONE, BadLine, bad_line
from support.saved_models import save_multiplication
from support.servers import Server

ROWS = np.array([[1.0, 2.0]], np.float32)
NAME = "cut:model"


@pytest.fixture(scope="module")
def prepared(engine: Server, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A model that is ready to take a name, so that a cut costs no conversion."""
    from mlflow_redisai.deploy.prepare import prepare

    uri = save_multiplication(tmp_path_factory.mktemp("models") / "doubling", 2.0).uri
    store = store_at(engine.target)
    return prepare(Order(store, facts.ask(store.connection, b"cut"), "cut", DeploymentOptions()), uri, None)


def store_at(target: str) -> Deployments:
    return Deployments(Connection(Target.parse(target)))


def anew(prepared: Prepared) -> Prepared:
    return Prepared(prepared.model, replace(prepared.record, **Record.new_identity()))


def left(engine: Server) -> list[bytes]:
    return sorted(engine.client().scan_iter("*cut:model*", count=1000))


def cuts(engine: Server, before: Callable[[], object], call: Callable[[str], object]) -> Iterator[BadLine]:
    """Make a call once for each cut. `before` brings about what it needs. Yield after each."""
    before()
    with bad_line(engine) as line:
        call(line.target)
    commands = len(line.commands)
    for number in range(1, commands + 1):
        for cut in CUTS:
            before()
            with bad_line(engine, cut, number) as line:
                call(line.target)
                yield line


class Deployed:
    """The deployment under NAME, seen over a connection of its own."""

    def __init__(self, engine: Server, prepared: Prepared) -> None:
        self.engine, self.prepared, self.store = engine, prepared, store_at(engine.target)
        self.new = prepared

    def absent(self) -> None:
        self.engine.client().delete(NAME, record_key(NAME.encode()))
        self.new = anew(self.prepared)

    def present(self) -> None:
        self.absent()
        self.store.create(NAME, self.new)
        self.new = anew(self.prepared)

    def is_the_new_one(self) -> bool:
        found = self.store.read(NAME).record
        return found is not None and found.id == self.new.record.id and len(left(self.engine)) == 2


@pytest.fixture
def deployed(engine: Server, prepared: Prepared) -> Iterator[Deployed]:
    found = Deployed(engine, prepared)
    yield found
    found.absent()


def test_a_create_succeeds_once(engine: Server, deployed: Deployed, caplog: pytest.LogCaptureFixture) -> None:
    """Never does it find itself: a create whose reply was lost doesn't end in "already exists"."""
    for _ in cuts(engine, deployed.absent, lambda target: store_at(target).create(NAME, deployed.new)):
        assert deployed.is_the_new_one()
        assert any("was lost" in message for message in caplog.messages)
        caplog.clear()


@pytest.mark.slow
def test_an_update_succeeds_once(engine: Server, deployed: Deployed) -> None:
    """Never does it take itself for another client's, whose update it must not undo."""

    def update(target: str) -> None:
        assert store_at(target).replace(NAME, deployed.new, instead_of=deployed.store.read(NAME))

    for _ in cuts(engine, deployed.present, update):
        assert deployed.is_the_new_one()


@pytest.mark.slow
def test_a_deletion_succeeds_once(engine: Server, deployed: Deployed) -> None:
    """Never does it end in "no such deployment", because it was this deletion that removed it."""
    for _ in cuts(engine, deployed.present, lambda target: store_at(target).delete(NAME)):
        assert left(engine) == []


@pytest.mark.slow
def test_a_model_on_trial_leaves_nothing(engine: Server, deployed: Deployed) -> None:
    def stage(target: str) -> None:
        with store_at(target).staged(NAME, deployed.new.model, 1000) as (_, meta):
            assert meta.backend == "ONNX"

    for _ in cuts(engine, deployed.absent, stage):
        assert left(engine) == []


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
    assert left(engine) == []


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
