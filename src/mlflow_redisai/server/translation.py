"""
The errors of Redis and RedisAI, translated to ours.

Two tables do it: by the start of the server's text, and by the class of redis-py's exception.
"""

from __future__ import annotations

from mlflow_redisai.errors import (
    ClusterNode,
    DeviceRefused,
    NoRedisAI,
    NotACluster,
    NotPermitted,
    ServerOutOfMemory,
    ServerProblem,
    ServerReadOnly,
    ServerUnavailable,
    ServerUnreachable,
    UnexpectedReply,
    WrongCredentials,
    WrongKeyType,
    one_sentence,
)

# The keys are names of redis-py's exception classes, not the classes: installed versions of redis-py may lack some of
# them. The class nearest in the exception's MRO decides.
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

# The start of the server's text decides first, because versions of redis-py differ in the classes they raise. A code in
# capitals is removed from the text, as newer versions of redis-py do.
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
    ("GPU requested but", DeviceRefused),
    ("ONNX Runtime can't use device", DeviceRefused),
    ("PyTorch can't use device", DeviceRefused),
)

# RedisAI's error for a missing model. Callers know the name and raise DeploymentMissing.
MODEL_MISSING = "model key is empty"


def translate(
    error: BaseException, where: str, text: str, otherwise: type[ServerProblem] = ServerProblem
) -> ServerProblem:
    """
    Return our error for an exception of redis-py, or for an error inside a reply.

    `text` is the error's text with secrets removed. `otherwise` is the class for an error that the command itself
    reports, such as ModelRefused for a model that can't be loaded.
    """
    said = text.removeprefix("ERR ")
    for start, cause in BY_TEXT:
        if said.startswith(start):
            return cause(where, one_sentence(said.removeprefix(f"{start} ") if start.isupper() else said))
    for kind in type(error).__mro__:
        found = BY_CLASS.get(kind.__name__)
        if found is not None:
            return (otherwise if found is ServerProblem else found)(where, _text_for(found, said))
    return otherwise(where, one_sentence(said))


def is_missing(error: BaseException) -> bool:
    """Return whether an error says that there is no model under the key."""
    return str(error).removeprefix("ERR ") == MODEL_MISSING


def _text_for(cause: type[ServerProblem], said: str) -> str:
    # Only ServerUnreachable's sentence continues after the text with a new sentence.
    return f"{one_sentence(said)}." if cause is ServerUnreachable else one_sentence(said)
