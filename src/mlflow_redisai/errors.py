"""
What can go wrong between MLflow and the server: one tree of exceptions, all of them MlflowException.

    MlflowException
     └─ RedisAIError
         ├─ InvalidTarget            the target URI or a REDIS_* variable can't be used
         ├─ InvalidOption            an option (-C key=value) is unknown or its value is not allowed
         ├─ InvalidRequest           the arguments of a call don't fit together
         ├─ DeploymentExists         create: the name is taken
         ├─ DeploymentMissing        there is no model of that name
         ├─ NotAModel                the name is a key of another type
         ├─ ConcurrentChange         others changed the deployment again and again meanwhile
         ├─ ModelNotFound            the model URI leads to no MLflow model
         ├─ FlavorMissing            the model doesn't have the flavor that was asked for
         ├─ NotConvertible           the model can't be turned into something the server runs
         ├─ MissingConverter         a package that the conversion needs isn't installed
         ├─ MissingPackage           a package that predicting needs isn't installed
         ├─ InvalidInput             what predict was given breaks the model's signature
         ├─ UnreadableRecord         the record was written by a later version of the plugin
         ├─ VerificationFailed       the stored model answers differently from the model itself
         └─ ServerProblem            what redis-py or the server says, by cause:
             ServerUnreachable, ServerUnavailable, WrongCredentials, NotPermitted, NoRedisAI, ServerReadOnly,
             ServerOutOfMemory, PredictionTimedOut, WrongKeyType, ClusterNode, NotACluster, OnlyDatabaseZero,
             ModelRefused, ModelFailed, UnexpectedReply

A constructor takes the facts and makes the sentence. `translate` is the only place where redis-py's exceptions and
the server's texts are mapped, `of_codec` where those of the codec are; tests keep their tables complete. No sentence
ever holds a password: `where` is the target's label, and texts go through `Target.redact` before they come here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    ABORTED,
    BAD_REQUEST,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    INVALID_STATE,
    NOT_IMPLEMENTED,
    PERMISSION_DENIED,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    RESOURCE_EXHAUSTED,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)

from redisai_engine.codec import errors as codec


class RedisAIError(MlflowException):
    """Base of everything that the plugin raises itself."""

    code: int = INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=self.code)

    @property
    def reason(self) -> str:
        """Return the message without what follows from it, for a note on what was done instead."""
        return str(self.message)


class InvalidTarget(RedisAIError):
    """The target URI or a REDIS_* variable can't be used; the sentence says which part and what is allowed."""

    code = INVALID_PARAMETER_VALUE


class InvalidOption(RedisAIError):
    """An option is unknown, its value is not allowed, or it doesn't go with the others."""

    code = INVALID_PARAMETER_VALUE


class InvalidRequest(RedisAIError):
    """The arguments of a call don't fit together."""

    code = INVALID_PARAMETER_VALUE


class DeploymentExists(RedisAIError):
    """The name that create was given is taken; nothing was changed."""

    code = RESOURCE_ALREADY_EXISTS

    def __init__(self, name: str, where: str) -> None:
        super().__init__(
            f"a model named {name!r} is deployed on {where} already; update or delete it, or take another name"
        )


class DeploymentMissing(RedisAIError):
    """There is no model of that name."""

    code = RESOURCE_DOES_NOT_EXIST

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"no model named {name!r} is deployed on {where}; list_deployments() tells which are")


class NotAModel(RedisAIError):
    """The name is a key that holds something else; the plugin never touches such a key."""

    code = RESOURCE_CONFLICT

    def __init__(self, name: str, kind: str, where: str) -> None:
        super().__init__(
            f"the key {name!r} on {where} holds a {kind}, not a model, and is left alone; take another name"
        )


class ConcurrentChange(RedisAIError):
    """Others changed the deployment as often as the plugin tried."""

    code = ABORTED

    def __init__(self, name: str, attempts: int) -> None:
        super().__init__(f"the deployment {name!r} was changed by others {attempts} times meanwhile; try again")


class ModelNotFound(RedisAIError):
    """The model URI leads to no MLflow model."""

    code = RESOURCE_DOES_NOT_EXIST

    def __init__(self, model_uri: str, reason: str) -> None:
        super().__init__(f"there is no MLflow model at {model_uri!r}: {reason}")


class FlavorMissing(RedisAIError):
    """The model doesn't have the flavor that was asked for."""

    code = INVALID_PARAMETER_VALUE


class NotConvertible(RedisAIError):
    """The model can't be turned into something the server runs; the sentence names the part that stands in the way."""

    code = INVALID_PARAMETER_VALUE


class MissingConverter(RedisAIError):
    """A package that the conversion needs isn't installed."""

    code = INVALID_STATE

    def __init__(self, flavor: str, package: str, extra: str) -> None:
        super().__init__(
            f"deploying the flavor {flavor} needs {package}, which isn't installed; "
            f'pip install "mlflow-redisai[{extra}]"'
        )


class MissingPackage(RedisAIError):
    """A package that predicting needs isn't installed."""

    code = INVALID_STATE


class InvalidInput(RedisAIError):
    """What predict was given breaks the model's signature; the sentence names the column or tensor."""

    code = INVALID_PARAMETER_VALUE


class UnreadableRecord(RedisAIError):
    """The deployment's record was written by a later version of the plugin."""

    code = INVALID_STATE


class VerificationFailed(RedisAIError):
    """The stored model answers differently from the model itself, whose answers are `reference`'s."""

    code = INVALID_STATE
    _END = "; nothing was deployed"

    def __init__(self, reference: str, difference: str) -> None:
        super().__init__(
            f"the stored model doesn't answer as {reference} does for the model's input example: "
            f"{difference}{self._END}"
        )

    @property
    def reason(self) -> str:
        return super().reason.removesuffix(self._END)


class ServerProblem(RedisAIError):
    """What redis-py or the server said, put into a sentence; `text` is what was said."""

    sentence = "{where} answered: {text}"

    def __init__(self, where: str, text: str) -> None:
        self.text = text
        super().__init__(self.sentence.format(where=where, text=text))


class ServerUnreachable(ServerProblem):
    """Nobody listens there, the connection broke, or no answer came in time."""

    code = TEMPORARILY_UNAVAILABLE
    sentence = "can't talk to {where}: {text} Is the server running, and are host, port and tls in the target right?"


class ServerUnavailable(ServerProblem):
    """The server is there and says that it can't serve just now."""

    code = TEMPORARILY_UNAVAILABLE
    sentence = "{where} can't serve just now: {text}; try again later"


class WrongCredentials(ServerProblem):
    """User name or password are wrong or missing."""

    code = UNAUTHENTICATED
    sentence = (
        "{where} refuses the user name or password: {text}; put them into the target as "
        "redisai://user:password@host:port/db, or into REDIS_USERNAME and REDIS_PASSWORD"
    )


class NotPermitted(ServerProblem):
    """The user may not run the command or not touch the key."""

    code = PERMISSION_DENIED
    sentence = (
        "{where} forbids it: {text}; the user needs AI.*, TYPE, HGETALL, HSET, DEL, PEXPIRE, WATCH, MULTI and EXEC "
        "on the key of the model and on mlflow-redisai:*"
    )


class NoRedisAI(ServerProblem):
    """A server without AI.* commands."""

    code = NOT_IMPLEMENTED
    sentence = (
        "{where} has no RedisAI: {text}; load the RedisAI module there, or start redisai-engine in front of it and "
        "name the engine's address as the target"
    )


class ServerReadOnly(ServerProblem):
    """A replica, or a primary that refuses writes."""

    code = INVALID_STATE
    sentence = "{where} takes no writes: {text}; name the primary as the target"


class ServerOutOfMemory(ServerProblem):
    """The server is at its maxmemory, or a queue is full."""

    code = RESOURCE_EXHAUSTED
    sentence = "{where} has no memory left for this: {text}; raise maxmemory or delete what isn't needed"


class PredictionTimedOut(ServerProblem):
    """The request waited longer than its timeout."""

    code = DEADLINE_EXCEEDED
    sentence = "{where} didn't get to the request within {text} ms; raise the option timeout or send fewer requests"


class WrongKeyType(ServerProblem):
    """A key holds another type than the command is for."""

    code = RESOURCE_CONFLICT
    sentence = "a key on {where} holds something else than expected: {text}"


class ClusterNode(ServerProblem):
    """A node of a Redis Cluster was named as if it were a single server."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} is a node of a Redis Cluster: {text}; add ?cluster=true to the target"


class NotACluster(ServerProblem):
    """A single server was named as if it were a node of a Redis Cluster."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} is not part of a Redis Cluster; leave cluster=true out"


class OnlyDatabaseZero(ServerProblem):
    """RedisAI 1.2.7 looks for models to run in database 0, whatever was selected; the engine doesn't."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} runs only models of database 0 ({text} where it looked); name database 0 in the target"


class ModelRefused(ServerProblem):
    """The server can't load the model."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} can't load this model: {text}"


class ModelFailed(ServerProblem):
    """The model ran and failed."""

    code = BAD_REQUEST
    sentence = "the model failed on {where}: {text}"


class UnexpectedReply(ServerProblem):
    """The server answered what RedisAI never answers."""

    sentence = "{where} gave a reply that the plugin doesn't understand: {text}"


# By the name of redis-py's exception class, so that a class which this redis-py lacks needs no import.
# The nearest class in the exception's MRO decides.
BY_CLASS: dict[str, type[ServerProblem]] = {
    "RedisError": ServerProblem,
    "ConnectionError": ServerUnreachable,
    "TimeoutError": ServerUnreachable,
    "MaxConnectionsError": ServerUnavailable,
    "BusyLoadingError": ServerUnavailable,
    "AuthenticationError": WrongCredentials,
    "AuthenticationWrongNumberOfArgsError": WrongCredentials,
    "AuthorizationError": NotPermitted,
    "ExternalAuthProviderError": WrongCredentials,
    "NoPermissionError": NotPermitted,
    "ResponseError": ServerProblem,
    "ReadOnlyError": ServerReadOnly,
    "OutOfMemoryError": ServerOutOfMemory,
    "ExecAbortError": ServerProblem,
    "NoScriptError": ServerProblem,
    "ModuleError": ServerProblem,
    "NoSuchFieldsetError": ServerProblem,
    "InvalidResponse": UnexpectedReply,
    "DataError": ServerProblem,
    "PubSubError": ServerProblem,
    "WatchError": ServerProblem,
    "LockError": ServerProblem,
    "LockNotOwnedError": ServerProblem,
    "ChildDeadlockedError": ServerProblem,
    "MovedError": ClusterNode,
    "AskError": ServerUnavailable,
    "TryAgainError": ServerUnavailable,
    "ClusterError": ServerUnavailable,
    "ClusterDownError": ServerUnavailable,
    "MasterDownError": ServerUnavailable,
    "SlotNotCoveredError": ServerUnavailable,
    "ClusterCrossSlotError": ServerProblem,
    "CrossSlotTransactionError": ServerProblem,
    "RedisClusterException": ServerUnreachable,
    "InvalidPipelineStack": ServerProblem,
    "IncorrectPolicyType": ServerProblem,
}

# By how the server's text starts, whatever class this version of redis-py made of it; looked at first. A code in
# capitals is left out of the sentence, as newer versions of redis-py do themselves.
BY_TEXT: tuple[tuple[str, type[ServerProblem]], ...] = (
    ("unknown command", NoRedisAI),
    ("unknown subcommand", NoRedisAI),
    ("WRONGTYPE", WrongKeyType),
    ("NOPERM", NotPermitted),
    ("NOAUTH", WrongCredentials),
    ("WRONGPASS", WrongCredentials),
    ("OOM", ServerOutOfMemory),
    ("READONLY", ServerReadOnly),
    ("MISCONF", ServerReadOnly),
    ("NOREPLICAS", ServerUnavailable),
    ("LOADING", ServerUnavailable),
    ("BUSY", ServerUnavailable),
    ("MASTERDOWN", ServerUnavailable),
    ("CLUSTERDOWN", ServerUnavailable),
    ("TRYAGAIN", ServerUnavailable),
    ("ASK", ServerUnavailable),
    ("MOVED", ClusterNode),
    ("max number of clients reached", ServerUnavailable),
    ("Cluster mode is not enabled", NotACluster),
    ("This instance has cluster support disabled", NotACluster),
)

# What RedisAI says about a key that isn't there; the caller knows the name and raises DeploymentMissing.
MODEL_MISSING = "model key is empty"


def translate(
    error: BaseException, where: str, text: str, otherwise: type[ServerProblem] = ServerProblem
) -> ServerProblem:
    """
    Turn an exception of redis-py, or an error inside a reply, into one of ours.

    `text` is what the error says, without secrets; `otherwise` is the class for an error of the command itself,
    such as ModelRefused for a model that can't be loaded.
    """
    said = text.removeprefix("ERR ")
    for start, cause in BY_TEXT:
        if said.startswith(start):
            return cause(where, _sentence(said.removeprefix(f"{start} ") if start.isupper() else said))
    for kind in type(error).__mro__:
        found = BY_CLASS.get(kind.__name__)
        if found is not None:
            return (otherwise if found is ServerProblem else found)(where, _text_for(found, said))
    return otherwise(where, _sentence(said))


# The codec's error → ours, with the same sentence.
BY_CODEC_CLASS: dict[type[codec.CodecError], type[RedisAIError]] = {
    codec.InputMismatch: InvalidInput,
    codec.PackageNotInstalled: MissingPackage,
    codec.UnreadableMapping: UnreadableRecord,
    codec.UnknownRecordFormat: UnreadableRecord,
    codec.UnusableOutput: InvalidRequest,
}


@contextlib.contextmanager
def of_codec() -> Iterator[None]:
    """Turn the codec's errors inside the block into ours."""
    try:
        yield
    except codec.CodecError as error:
        raise BY_CODEC_CLASS[type(error)](str(error)) from error


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, without a full stop; the name of its class if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def is_missing(error: BaseException) -> bool:
    """Return whether the server answered that there is no model under the key."""
    return str(error).removeprefix("ERR ") == MODEL_MISSING


def _text_for(cause: type[ServerProblem], said: str) -> str:
    # Only this sentence goes on after a full stop.
    return f"{_sentence(said)}." if cause is ServerUnreachable else _sentence(said)


def _sentence(said: str) -> str:
    return said.strip().rstrip(".")
