"""
What an error of the engine is in HTTP: a status, and a text for the client.

Invariant: a client sees no stack trace and no text of a library alone. Status 500 stands for a bug in the engine.
"""

from __future__ import annotations

from redisai_engine.errors import (
    BadMetadata,
    CommandError,
    DeploymentStuck,
    EngineClosing,
    EngineError,
    HostOutOfMemory,
    ModelKeepsDying,
    ModelLoadError,
    ModelRunError,
    NoThread,
    QueueFull,
    RunGivenUp,
    UpstreamError,
    WrongType,
)
from redisai_engine.protocol import texts

#: By the first word of Redis' text.
_OF_REDIS = {
    "NOAUTH": 401,
    "WRONGPASS": 401,
    "NOPERM": 403,
    "WRONGTYPE": 404,
    "LOADING": 503,
    "MASTERDOWN": 503,
    "BUSY": 503,
}
_OF_ENGINE: tuple[tuple[type[EngineError], int], ...] = (
    (QueueFull, 503),
    (NoThread, 503),
    (EngineClosing, 503),
    (DeploymentStuck, 503),
    (HostOutOfMemory, 503),
    (RunGivenUp, 504),
    (ModelKeepsDying, 503),
    (ModelRunError, 400),
    (ModelLoadError, 503),
    (WrongType, 404),
    (BadMetadata, 404),
)
#: In the texts of backends, for a run that `model-execution-timeout` has ended.
_STOPPED = ("terminate flag", "model-execution-timeout allows")
RETRY_AFTER = b"1"  # seconds


class RequestRefused(EngineError):
    """The request can't be carried out. `status` is HTTP's."""

    def __init__(self, status: int, wire: str) -> None:
        super().__init__(wire)
        self.status = status


class WaitedTooLong(RequestRefused):
    """The request has waited longer in the queue than it may."""

    def __init__(self) -> None:
        super().__init__(504, "the request waited longer for the model than its timeout allows")


def bad_request(text: str) -> RequestRefused:
    return RequestRefused(400, text)


def not_a_frame(form: str, method: str, reason: str) -> RequestRefused:
    """Return what MLflow's server says of a body that pandas can't read."""
    return bad_request(
        f"Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid {form} Pandas DataFrame "
        f"produced using the `pandas.DataFrame.{method}()` method. Error: '{reason}'"
    )


def body_too_large(most: int) -> RequestRefused:
    return RequestRefused(413, f"the body is larger than the {most} bytes that are allowed (see --http-body-limit)")


def status_of(error: EngineError) -> int:
    """Return the status that an error has in HTTP."""
    if isinstance(error, RequestRefused):
        return error.status
    if isinstance(error, UpstreamError):
        return _OF_REDIS.get(error.wire.partition(" ")[0], 503)
    if isinstance(error, ModelRunError) and any(sign in error.wire for sign in _STOPPED):
        return 504
    for kind, status in _OF_ENGINE:
        if isinstance(error, kind):
            return status
    if isinstance(error, CommandError):
        return 404 if error.wire == texts.MODEL_MISSING else 400
    return 500


def text_of(error: EngineError) -> str:
    """Return the text of an error without the code that Redis' protocol puts before it."""
    code, _, rest = error.wire.partition(" ")
    return rest if code == "ERR" and rest else error.wire
