"""The reply to a prediction becomes tensors, or an error that says what went wrong and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from redis.exceptions import ResponseError

from mlflow_redisai import errors
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.replies import tensors_of
from mlflow_redisai.target import Target


def read(reply: Any, uri: str = "redisai://example.org") -> list[list[float]]:
    """Read a reply with two fetched outputs. The connection is never opened."""
    return [tensor.array().tolist() for tensor in tensors_of(Connection(Target.parse(uri, {})), reply, 2, 50)]


def fetched(*values: float) -> list[object]:
    """Return one element of the reply: AI.TENSORGET META BLOB."""
    return [b"dtype", b"DOUBLE", b"shape", [len(values)], b"blob", np.array(values, np.float64).tobytes()]


def test_the_fetched_tensors_are_the_last_elements() -> None:
    assert read([b"OK", b"OK", fetched(1, 2), fetched(3)]) == [[1, 2], [3]]


MISSING = ResponseError("model key is empty")


@pytest.mark.parametrize(
    ("reply", "uri", "kind", "message"),
    [
        (
            [b"TIMEDOUT"],
            "redisai://h",
            errors.PredictionTimedOut,
            (
                "Redis at h:6379 didn't start the prediction within 50 ms; raise the option timeout, or send fewer "
                "requests at once"
            ),
        ),
        (
            [b"OK", ResponseError("bad shape"), b"NA", b"NA"],
            "redisai://h",
            errors.ModelFailed,
            "the model failed on Redis at h:6379: bad shape",
        ),
        (MISSING, "redisai://h", errors.ModelFailed, "the model failed on Redis at h:6379: model key is empty"),
        (
            MISSING,
            "redisai://h/2",
            errors.OnlyDatabaseZero,
            "Redis at h:6379/2 runs only models in database 0: model key is empty; set database 0 in the target",
        ),
        (
            ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
            "redisai://h",
            errors.ServerOutOfMemory,
            (
                "Redis at h:6379 is out of memory: command not allowed when used memory > 'maxmemory'; "
                "raise maxmemory, or delete keys that are no longer needed"
            ),
        ),
        (
            [b"OK"],
            "redisai://h",
            errors.UnexpectedReply,
            "Redis at h:6379 sent a reply that the plugin can't interpret: AI.DAGEXECUTE_RO answered [b'OK']",
        ),
    ],
)
def test_what_went_wrong_is_told(reply: Any, uri: str, kind: type[errors.RedisAIError], message: str) -> None:
    with pytest.raises(kind) as caught:
        read(reply, uri)

    assert caught.value.message == message
