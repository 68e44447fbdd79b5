"""What the event loop tells the processes of models, and what it tells the turn of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from redisai_engine.backends.base import Array, Errand, LoadedModel, Outputs
from support.execution import Client, rows


class Elsewhere(LoadedModel):
    """A model that runs elsewhere, as often as at the same time as it has sockets."""

    at_once = 2

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self.inputs, self.outputs = ("x",), ("y",)
        self.were_alone: list[bool] = []
        self._sockets = list(sockets)

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        raise AssertionError("no thread must run it")

    def reserve(self, arrays: Sequence[Array]) -> Errand | None:
        return Sent(self, self._sockets.pop())


class Sent(Errand):
    def __init__(self, model: Elsewhere, connection: socket.socket) -> None:
        self._model = model
        self._socket = connection

    def begin(self, arrays: Sequence[Array], stop: Any, *, is_alone: bool) -> int:
        self._model.were_alone.append(is_alone)
        return self._socket.fileno()

    def answer(self) -> Outputs | None:
        self._socket.recv(1)
        return rows(1)

    def wait(self) -> Outputs:
        raise AssertionError("the answer is there")


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(2)]
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_run_is_alone_if_no_other_waits_or_is_under_way(run_loop, model, pairs) -> None:
    async def test() -> None:
        async with Client() as client:
            elsewhere = Elsewhere([theirs for _, theirs in pairs])
            runnable = model(elsewhere)

            first = client.start(runnable, rows(1))
            was_alone = client.executor.waits_elsewhere
            second = client.start(runnable, rows(1))
            are_two = not client.executor.waits_elsewhere
            for ours, _ in pairs:
                ours.send(b"x")
            await first
            await second

            assert was_alone
            assert are_two
            assert elsewhere.were_alone == [True, False]
            assert not client.executor.waits_elsewhere

    run_loop(test)
