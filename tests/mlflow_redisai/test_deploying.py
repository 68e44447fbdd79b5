"""What the server's replies to a trial run mean, and which backend a deployment ends up with."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from mlflow_redisai import errors
from mlflow_redisai.connection import Connection
from mlflow_redisai.deploying import tensors_of
from mlflow_redisai.target import Target


def refused(reply: object, target: str = "redisai://h") -> errors.RedisAIError:
    with pytest.raises(errors.RedisAIError) as caught:
        tensors_of(Connection(Target.parse(target)), reply, 1, 50)
    return caught.value


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (b"TIMEDOUT", errors.PredictionTimedOut, "Redis at h:6379 didn't get to the request within 50 ms; "),
        (
            [b"OK", ResponseError("bad dims"), b"NA"],
            errors.ModelFailed,
            "the model failed on Redis at h:6379: bad dims",
        ),
        (ResponseError("OOM no memory"), errors.ServerOutOfMemory, "Redis at h:6379 has no memory left for this: "),
        ([b"OK", b"OK", b"NA"], errors.UnexpectedReply, "Redis at h:6379 gave a reply that the plugin doesn't "),
    ],
)
def test_what_is_no_answer_becomes_an_error(reply: object, kind: type[Exception], message: str) -> None:
    error = refused(reply)

    assert type(error) is kind
    assert error.message.startswith(message)


def test_a_redisai_that_runs_only_models_of_database_0_is_told_as_such() -> None:
    """RedisAI 1.2.7 stores a model in the selected database and looks for it in another when it is to run."""
    error = refused(ResponseError("model key is empty"), "redisai://h/2")

    assert error.error_code == "INVALID_PARAMETER_VALUE"
    assert error.message == (
        "Redis at h:6379/2 runs only models of database 0 (model key is empty where it looked); name database 0 in the "
        "target"
    )
