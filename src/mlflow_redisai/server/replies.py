"""
The reply to a prediction → tensors, or the plugin's error for what went wrong.
"""

from __future__ import annotations

from typing import Any

from mlflow_redisai import errors
from mlflow_redisai.server import commands
from mlflow_redisai.server.connection import Connection
from redisai_engine.protocol.tensor import Tensor


def tensors_of(connection: Connection, reply: Any, fetched: int, timeout_ms: int) -> list[Tensor]:
    """
    Return the `fetched` output tensors in the reply to `commands.dag`, in order.

    Raise PredictionTimedOut, ModelFailed, OnlyDatabaseZero, UnexpectedReply, or what else the server says.
    """
    try:
        return commands.dag_tensors(reply, fetched)
    except commands.RunTimedOut:
        raise errors.PredictionTimedOut(connection.where, str(timeout_ms)) from None
    except commands.BadReply as error:
        raise errors.UnexpectedReply(connection.where, str(error)) from error
    except Exception as error:
        # The caller has seen the model, or just stored it.
        elsewhere = connection.target.db != 0 and errors.is_missing(error)
        raise connection.problem(error, errors.OnlyDatabaseZero if elsewhere else errors.ModelFailed) from error
