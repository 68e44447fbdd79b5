"""
The plugin's errors: one tree, in which every class is an MlflowException.

Each is an error of click's too, so MLflow's command line prints its sentence, and not where in our code it was raised.

    MlflowException
     └─ RedisAIError
         ├─ InvalidTarget            the target URI or a REDIS_* variable is invalid
         ├─ InvalidOption            an option (-C key=value) is unknown or its value isn't allowed
         ├─ InvalidRequest           the arguments of a call are invalid or contradict each other
         ├─ DeploymentExists         create: the name is in use
         ├─ DeploymentMissing        there is no model of that name
         ├─ NotAModel                the name is a key of another type
         ├─ ConcurrentChange         other clients kept changing the deployment
         ├─ CallTimedOut             the call's own time limit is over
         ├─ ModelNotFound            the model URI leads to no MLflow model
         ├─ FlavorMissing            the model lacks the requested flavor
         ├─ NotConvertible           the model can't be converted to anything the server runs
         │   └─ ConversionTooLong, ConversionTooLarge, ConversionCrashed
         ├─ MissingConverter         a package that the conversion needs isn't installed
         ├─ MissingPackage           a package that predicting needs isn't installed
         ├─ InvalidInput             an input to predict doesn't match the model's signature
         ├─ UnreadableRecord         the record was written by another version of the plugin, or changed by others
         ├─ UnfitAnswer              the server's tensors are not those of the deployed model
         ├─ VerificationFailed       the stored model answers differently from the original
         └─ ServerProblem            an error of redis-py or the server, by cause:
             ServerUnreachable (UnknownOutcome), ServerUnavailable, WrongCredentials, NotPermitted, NoRedisAI,
             ServerReadOnly, ServerOutOfMemory, PredictionTimedOut, WrongKeyType, ClusterNode, NotACluster,
             OnlyDatabaseZero, ModelRefused (DeviceRefused), ModelFailed, UnexpectedReply

Constructors take facts and build the sentence. `server.translation` is the only place that maps redis-py's exceptions
and the server's error texts, and `of_codec` the only one that maps the codec's errors. Tests check that nothing is
unmapped.

Invariant: no message contains a password. `where` is the target's label, and other texts pass through `Target.redact`
first.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from click import ClickException
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


class RedisAIError(MlflowException, ClickException):  # type: ignore[misc]  # click calls its `message` final
    """Base class of all errors that the plugin raises."""

    code: int = INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=self.code)

    @property
    def reason(self) -> str:
        """The message without its consequences, for a note about what was done instead."""
        return str(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take facts, which are not kept.
        return _again, (type(self), str(self.message))


def _again(kind: type[RedisAIError], message: str) -> RedisAIError:
    """Return an error of a class and a message that come from another process."""
    error = kind.__new__(kind)
    RedisAIError.__init__(error, message)
    return error


class InvalidTarget(RedisAIError):
    """The target URI or a REDIS_* variable is invalid. The message names the part and what is allowed."""

    code = INVALID_PARAMETER_VALUE


class InvalidOption(RedisAIError):
    """An option is unknown, its value isn't allowed, or it conflicts with another option."""

    code = INVALID_PARAMETER_VALUE


class InvalidRequest(RedisAIError):
    """The arguments of a call are invalid or contradict each other."""

    code = INVALID_PARAMETER_VALUE


class DeploymentExists(RedisAIError):
    """The name given to create is in use. Nothing was changed."""

    code = RESOURCE_ALREADY_EXISTS

    def __init__(self, name: str, where: str) -> None:
        super().__init__(
            f"a model named {name!r} is already deployed on {where}; update or delete it, or choose another name"
        )


class DeploymentMissing(RedisAIError):
    """There is no model of that name."""

    code = RESOURCE_DOES_NOT_EXIST

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"no model named {name!r} is deployed on {where}; list the deployments to see which are")


class NotAModel(RedisAIError):
    """The key of that name holds a value of another type. The plugin never changes such a key."""

    code = RESOURCE_CONFLICT

    def __init__(self, name: str, kind: str, where: str) -> None:
        super().__init__(
            f"the key {name!r} on {where} holds a {kind}, not a model, and was not changed; choose another name"
        )


class ConcurrentChange(RedisAIError):
    """Other clients changed the deployment during each of the plugin's attempts."""

    code = ABORTED

    def __init__(self, name: str, attempts: int) -> None:
        super().__init__(
            f"other clients changed the deployment {name!r} during each of {attempts} attempts; try again later"
        )


class CallTimedOut(RedisAIError):
    """
    The call's time limit, from end to end, is over.

    `what` was called, `step` was its step and has taken `took` seconds; `cure` says how to allow more.
    """

    code = DEADLINE_EXCEEDED

    def __init__(self, what: str, seconds: float, step: str, took: float, cure: str) -> None:
        last = f"it had been {step} for {took:.1f} s; " if step else ""
        super().__init__(f"{what} took longer than {seconds:g} s and was given up: {last}{cure}")


class ModelNotFound(RedisAIError):
    """The model URI leads to no MLflow model."""

    code = RESOURCE_DOES_NOT_EXIST

    def __init__(self, model_uri: str, reason: str) -> None:
        super().__init__(f"no MLflow model found at {model_uri!r}: {reason}")


class FlavorMissing(RedisAIError):
    """The model lacks the requested flavor."""

    code = INVALID_PARAMETER_VALUE


class NotConvertible(RedisAIError):
    """The model can't be converted to anything the server runs. The message names the part that prevents it."""

    code = INVALID_PARAMETER_VALUE


class ConversionTooLong(NotConvertible):
    """Converting the model, or trying the conversion, was ended at its time limit."""

    code = DEADLINE_EXCEEDED

    def __init__(self, flavor: str, model_uri: str, seconds: float) -> None:
        super().__init__(
            f"converting the {flavor} model {model_uri} took longer than {seconds:g} s and was ended; allow more with "
            f"-C convert_timeout={max(600, 5 * int(seconds))} (0: no limit)"
        )


class ConversionTooLarge(NotConvertible):
    """Converting the model, or trying the conversion, was ended at its memory limit."""

    code = RESOURCE_EXHAUSTED

    def __init__(self, flavor: str, model_uri: str, mebibytes: int) -> None:
        super().__init__(
            f"converting the {flavor} model {model_uri} took more than {mebibytes} MiB of memory and was ended; allow "
            "more with -C convert_memory=... (MiB, 0: no limit), or deploy it from a machine that has more"
        )


class ConversionCrashed(NotConvertible):
    """The process that converts the model ended without a result."""

    code = INVALID_STATE

    def __init__(self, flavor: str, model_uri: str, how: str) -> None:
        super().__init__(
            f"the process that converted the {flavor} model {model_uri} crashed ({how}); load and run the model in a "
            "process of its own to see whether its library or its own code does that"
        )


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
    """An input to predict doesn't match the model's signature. The message names the column or tensor."""

    code = INVALID_PARAMETER_VALUE


class UnreadableRecord(RedisAIError):
    """The deployment's record was written by another version of the plugin, or changed by somebody else."""

    code = INVALID_STATE


class UnfitAnswer(RedisAIError):
    """The server's tensors are not those of the deployed model."""

    code = INVALID_STATE


class VerificationFailed(RedisAIError):
    """
    The stored model answers differently from the original, whose answers come from `reference`.

    `asked` is what both were asked.
    """

    code = INVALID_STATE
    _END = "; nothing was deployed"

    def __init__(self, reference: str, difference: str, asked: str = "the model's input example") -> None:
        super().__init__(
            f"the stored model failed verification against {reference} with {asked}: {difference}{self._END}"
        )

    @property
    def reason(self) -> str:
        return super().reason.removesuffix(self._END)


class ServerProblem(RedisAIError):
    """An error of redis-py or the server, put into a sentence. `text` is the original text."""

    sentence = "{where} replied with an error: {text}"

    def __init__(self, where: str, text: str) -> None:
        self.text = text
        super().__init__(self.sentence.format(where=where, text=text))


class ServerUnreachable(ServerProblem):
    """Nothing listens at the address, the connection broke, or no reply arrived in time."""

    code = TEMPORARILY_UNAVAILABLE
    sentence = "can't reach {where}: {text} Check that the server is running, and the target's host, port and tls."


class UnknownOutcome(ServerUnreachable):
    """The connection broke after the last command of a change was sent, and the server can't be asked what became."""

    sentence = (
        "can't reach {where}: {text} The change may have been made or not; once the server can be reached, get or list "
        "shows it."
    )


class ServerUnavailable(ServerProblem):
    """The server responds but can't serve requests right now."""

    code = TEMPORARILY_UNAVAILABLE
    sentence = "{where} can't serve requests right now: {text}; try again later"


class WrongCredentials(ServerProblem):
    """The user name or password is wrong or missing."""

    code = UNAUTHENTICATED
    sentence = (
        "{where} rejected the user name or password: {text}; set them in the target as "
        "redisai://user:password@host:port/db, or in REDIS_USERNAME and REDIS_PASSWORD"
    )


class NotPermitted(ServerProblem):
    """The user may not run the command or access the key."""

    code = PERMISSION_DENIED
    sentence = (
        "{where} denied permission: {text}; the user needs AI.*, TYPE, HGET, HGETALL, HSET, DEL, PEXPIRE, WATCH, "
        "MULTI and EXEC on the model's key and on mlflow-redisai:*"
    )


class NoRedisAI(ServerProblem):
    """The server has no AI.* commands."""

    code = NOT_IMPLEMENTED
    sentence = (
        "{where} has no AI commands: {text}; load the RedisAI module there, or start redisai-engine in front of it and "
        "set the engine's address as the target"
    )


class ServerReadOnly(ServerProblem):
    """The server is a replica, or a primary that refuses writes."""

    code = INVALID_STATE
    sentence = "{where} accepts no writes: {text}; set a writable primary as the target"


class ServerOutOfMemory(ServerProblem):
    """The server has reached its maxmemory."""

    code = RESOURCE_EXHAUSTED
    sentence = "{where} is out of memory: {text}; raise maxmemory, or delete keys that are no longer needed"


class PredictionTimedOut(ServerProblem):
    """The prediction waited in the server's queue for longer than its timeout."""

    code = DEADLINE_EXCEEDED
    sentence = (
        "{where} didn't start the prediction within {text} ms; raise the option timeout, or send fewer requests at once"
    )


class WrongKeyType(ServerProblem):
    """A key holds a value of another type than the command needs."""

    code = RESOURCE_CONFLICT
    sentence = "a key on {where} holds a value of an unexpected type: {text}"


class ClusterNode(ServerProblem):
    """The server is a node of a Redis Cluster, but the target doesn't have cluster=true."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} is a node of a Redis Cluster: {text}; add ?cluster=true to the target"


class NotACluster(ServerProblem):
    """The target has cluster=true, but the server isn't part of a Redis Cluster."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} is not part of a Redis Cluster; remove cluster=true from the target"


class OnlyDatabaseZero(ServerProblem):
    """RedisAI 1.2.7 looks up models to run in database 0, even if the client selected another. The engine doesn't."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} runs only models in database 0: {text}; set database 0 in the target"


class ModelRefused(ServerProblem):
    """The server can't load the model."""

    code = INVALID_PARAMETER_VALUE
    sentence = "{where} can't load this model: {text}"


class DeviceRefused(ModelRefused):
    """The server lacks the device, or the backend can't use it."""


class ModelFailed(ServerProblem):
    """The model was run and failed."""

    code = BAD_REQUEST
    sentence = "the model failed on {where}: {text}"


class UnexpectedReply(ServerProblem):
    """The server sent a reply that RedisAI never sends."""

    sentence = "{where} sent a reply that the plugin can't interpret: {text}"


# The codec's errors and ours; the message is the same.
BY_CODEC_CLASS: dict[type[codec.CodecError], type[RedisAIError]] = {
    codec.InputMismatch: InvalidInput,
    codec.PackageNotInstalled: MissingPackage,
    codec.UnreadableMapping: UnreadableRecord,
    codec.DamagedMapping: UnreadableRecord,
    codec.UnknownRecordFormat: UnreadableRecord,
    codec.AnswerMismatch: UnfitAnswer,
    codec.UnusableOutput: InvalidRequest,
}


@contextlib.contextmanager
def of_codec() -> Iterator[None]:
    """Raise the codec's errors inside the block as ours."""
    try:
        yield
    except codec.CodecError as error:
        raise BY_CODEC_CLASS[type(error)](str(error)) from error


# From these marks on, a library says where in its own source it failed, or where in a model's.
_STACK = re.compile(r"\s*(?:Exception raised from |frame #\d+: |Stack trace:)")
_SOURCE = re.compile(r":?\s*(?:Serialized\s+)?File \"[^\"]*\", line \d+")
# TorchScript names the cause behind the model's source, whose failing line ends with the second mark.
_TRACEBACK, _HERE = "Traceback of TorchScript", "<--- HERE"
_LONGEST = 300


def first_line(error: BaseException) -> str:
    """Return the first line of the cause that a library's error names, or the class name if the error has no text."""
    return one_sentence(str(error)) or type(error).__name__


def one_sentence(text: str) -> str:
    """
    Return the first line of the cause without its full stop, cut after 300 characters.

    RedisAI sends a library's text with spaces instead of line breaks, and with stack frames of the library.
    """
    text = _STACK.split(text, maxsplit=1)[0]
    if _TRACEBACK in text:
        text = text.rpartition(_HERE)[2].strip().removeprefix("RuntimeError: ") or text
    text = _SOURCE.split(text, maxsplit=1)[0]
    line = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")
    return line.rstrip(".") if len(line) <= _LONGEST else f"{line[:_LONGEST].rsplit(' ', 1)[0]} ..."
