"""A deployment that is created, updated and deleted over lines that are cut, and what there is of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.server import facts
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Deployments, Prepared
from mlflow_redisai.server.record import Record
from mlflow_redisai.target import Target
from redisai_engine.codec.record import record_key
from support.bad_line import CUTS, BadLine, bad_line
from support.saved_models import save_multiplication
from support.servers import Server

NAME = "cut:model"


def store_at(target: str) -> Deployments:
    return Deployments(Connection(Target.parse(target)))


def prepared_at(engine: Server, folder: Path) -> Prepared:
    """Return a model that is ready to take a name, so that a cut costs no conversion."""
    from mlflow_redisai.deploy.prepare import Order, prepare

    store = store_at(engine.target)
    order = Order(store, facts.ask(store.connection, NAME.encode()), NAME, DeploymentOptions())
    with prepare(order, save_multiplication(folder, 2.0).uri, None) as prepared:
        return anew(prepared)


def anew(prepared: Prepared) -> Prepared:
    return Prepared(prepared.model, replace(prepared.record, **Record.new_identity()))


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
    """The deployment under NAME, seen over a connection of its own. `new` is what is to take the name next."""

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
        return found is not None and found.id == self.new.record.id and len(self.keys()) == 2

    def keys(self) -> list[bytes]:
        return sorted(self.engine.client().scan_iter(f"*{NAME}*", count=1000))

    # -- calls, for `cuts`

    def create(self, target: str) -> None:
        store_at(target).create(NAME, self.new)

    def update(self, target: str) -> None:
        assert store_at(target).replace(NAME, self.new, instead_of=self.store.read(NAME))

    def create_from_trial(self, target: str) -> None:
        store = store_at(target)
        with store.staged(NAME, self.new.model, 1000) as (trial, _):
            store.create(NAME, replace(self.new, trial=trial))

    def update_from_trial(self, target: str) -> None:
        store, current = store_at(target), self.store.read(NAME)
        with store.staged(NAME, self.new.model, 1000) as (trial, _):
            assert store.replace(NAME, replace(self.new, trial=trial), instead_of=current)

    def delete(self, target: str) -> None:
        store_at(target).delete(NAME)

    def stage(self, target: str) -> None:
        with store_at(target).staged(NAME, self.new.model, 1000) as (_, meta):
            assert meta.backend == "ONNX"
