"""The reply to a prediction: its tensors, or the plugin's error for what went wrong."""

from __future__ import annotations

from typing import Any

from mlflow_redisai import errors
from mlflow_redisai.server import commands, translation
from mlflow_redisai.server.connection import Connection
from redisai_engine.protocol.tensor import Tensor


def tensors_of(connection: Connection, reply: Any, fetched: int, timeout_ms: int) -> list[Tensor]:
    """
    Return the `fetched` output tensors in the reply to `commands.dag`, in order.

    Raise PredictionTimedOut, ModelFailed, OnlyDatabaseZero, UnexpectedReply, or the error for another cause.
    """
    try:
        return commands.dag_tensors(reply, fetched)
    except commands.RunTimedOut:
        raise errors.PredictionTimedOut(connection.where, str(timeout_ms)) from None
    except commands.BadReply as error:
        raise errors.UnexpectedReply(connection.where, str(error)) from error
    except Exception as error:
        # The model exists, since the caller has read or stored it. If RedisAI doesn't find it, it looked in database 0.
        elsewhere = connection.target.db != 0 and translation.is_missing(error)
        raise connection.problem(error, errors.OnlyDatabaseZero if elsewhere else errors.ModelFailed) from error
