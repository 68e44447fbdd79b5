"""
What a first prediction over HTTP asks Redis, asked once its model is stored: who may read it, and its record.

Theory of operation. Who deploys a model often asks for a prediction next. So when a model is stored, the user who
stored it is asked for on a connection that the same user has for HTTP, with the questions of a prediction. Others
aren't asked for: Redis may log what it refuses, and nobody should find refusals there that no client has caused.

Invariant: what was learned is remembered as long as if a prediction had asked, and never longer than the model is in
memory. A failure is nobody's.
"""

from __future__ import annotations

from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import RunnableModel
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.deployments import read_deployment
from redisai_engine.fronts.http.access.users import Users

_MOST_BYTES = 256 * 1024  # of a record that is read before anybody has asked for it


def introduce(users: Users, user: bytes, key: bytes, model: RunnableModel) -> None:
    """Have a user who has just stored this model know what predictions need of it."""
    for connection in users.connections_of(user):
        connection.start(_introduced(connection.client, key, model), _forget)


def _introduced(client: Client, key: bytes, model: RunnableModel) -> Steps[None]:
    try:
        yield from read_deployment(client, key, model, most=_MOST_BYTES)
    except EngineError:
        return


def _forget(outcome: Any) -> None:
    pass
