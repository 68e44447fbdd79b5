"""
Streams of answers, item by item, on a connection of their own.

The engine ends a stream when its connection is closed, so a generator that is closed, or forgotten, ends the model's.

Invariant: no item comes from another version of the model than the one that is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from mlflow_redisai import deadline, errors
from mlflow_redisai.server import commands, translation
from mlflow_redisai.server.commands import Command
from mlflow_redisai.server.connection import Connection, WatchedTransaction
from redisai_engine.codec.answers import decode
from redisai_engine.codec.mapping import Mapping
from redisai_engine.protocol.tensor import Tensor


class Streamed(Protocol):
    """What a stream needs to know about a deployment."""

    name: str
    key: bytes
    version: bytes | None
    mapping: Mapping
    what: str
    limit_s: float
    timeout_ms: int
    wait_ms: int


class Outdated(Exception):
    """The model isn't the one that was known."""


def items(connection: Connection, known: Streamed, tensors: list[Tensor], cure: str) -> Iterator[Any]:
    """Yield what the model's predict_stream yields. Raise Outdated before the first item, or the error of an item."""
    with connection.transaction(known.key) as single:
        stream = _Stream(connection, known, single, cure)
        item = stream.begin(tensors[0])
        while item is not None:
            with errors.of_codec():
                answer = decode(item, known.mapping)
            yield answer
            item = stream.ask(["AI.STREAMNEXT", known.key])


class _Stream:
    def __init__(self, connection: Connection, known: Streamed, single: WatchedTransaction, cure: str) -> None:
        self._connection = connection
        self._known = known
        self._single = single
        self._cure = cure

    def begin(self, tensor: Tensor) -> list[Tensor] | None:
        key = self._known.key
        read: Command = ["AI._MODELID", key]
        begin: Command = ["AI.MODELSTREAM", key, "TIMEOUT", self._known.wait_ms]
        try:
            before = self._command(read)
            first = self.ask([*begin, tensor.dtype.name, *tensor.shape, "BLOB", tensor.blob])
            after = self._command(read)
        except errors.ServerProblem as problem:
            if translation.is_missing(problem.__cause__ or problem):
                raise Outdated from None
            raise
        if not before == after == self._known.version:
            raise Outdated
        return first

    def ask(self, command: Command) -> list[Tensor] | None:
        """Return the tensors of an item, or None at the end."""
        reply = self._command(command)
        if reply == b"TIMEDOUT":
            raise errors.PredictionTimedOut(self._connection.where, str(self._known.timeout_ms))
        try:
            return None if reply is None else [commands.tensor(element) for element in reply]
        except commands.BadReply as error:
            raise errors.UnexpectedReply(self._connection.where, str(error)) from error

    def _command(self, command: Command) -> Any:
        known, target = self._known, self._connection.target
        seconds = known.limit_s if target.timeout is None else target.timeout or None
        with deadline.Limit(known.what, seconds, self._cure), self._connection.translated(errors.ModelFailed):
            return self._single.command(*command)
