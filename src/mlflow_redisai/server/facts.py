"""
What the plugin asks a server about itself: does it have RedisAI, what can its ONNX Runtime load, how large may a chunk
of a model be, does it run Python models.

Nothing else is inferred from whether the engine or RedisAI answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_redisai.errors import NoRedisAI
from mlflow_redisai.server.commands import text
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.limits import ServerLimits, limits_of
from redisai_engine.protocol.patterns import KeyPatterns

if TYPE_CHECKING:
    from collections.abc import Iterable

# Redis' default limit for one argument, used if proto-max-bulk-len can't be read.
DEFAULT_BULK_BYTES = 512 * 1024 * 1024


NO_ENGINE = "RedisAI has no backend for that; deploy to mlflow-redisai's engine, started with --python-models"
NOT_ALLOWED = "the engine was started without --python-models; its operator may allow them, as their code runs there"
ELSEWHERE = "the engine runs Python models only under names that match {keys} (python-models); give it such a name"
NOT_TOLD = "the engine doesn't say whether it runs Python models (INFO ai_engine); ask its operator"


@dataclass(frozen=True)
class ServerFacts:
    """
    What one server answers. `onnxruntime` is the version of its ONNX Runtime, None if unknown. `python_models` is None
    if it runs Python models, else why not and how to allow it.
    """

    onnxruntime: str | None = None
    limits: ServerLimits = field(default_factory=lambda: limits_of(None))
    chunk_bytes: int = DEFAULT_BULK_BYTES
    python_models: str | None = NO_ENGINE


def ask(connection: Connection, key: bytes) -> ServerFacts:
    """
    Ask the node that holds `key` how large an argument it accepts.

    Raise NoRedisAI for a server without AI commands.
    """
    chunk_size, bulk_size = connection.pipeline(
        key, [["AI.CONFIG", "GET", "MODEL_CHUNK_SIZE"], ["CONFIG", "GET", "proto-max-bulk-len"]]
    )
    if isinstance(chunk_size, Exception):
        problem = connection.problem(chunk_size)
        if isinstance(problem, NoRedisAI):
            raise problem from chunk_size
    return ServerFacts(chunk_bytes=min(_numbers([chunk_size, *_values(bulk_size)]), default=DEFAULT_BULK_BYTES))


def with_runtime(facts: ServerFacts, connection: Connection, key: bytes) -> ServerFacts:
    """
    Add what the server's ONNX Runtime can load, if the server reports its version.

    Call this only while the server holds an ONNX model. INFO MODULES crashes a RedisAI 1.2.7 whose ONNX backend was
    loaded by AI.CONFIG LOADBACKEND and that has never had a model for it.
    """
    [info] = connection.pipeline(key, [["INFO", "MODULES"]])
    version = _version_text(info.get("ai_onnxruntime_version")) if isinstance(info, dict) else None
    return replace(facts, onnxruntime=version, limits=limits_of(version))


def with_python_models(facts: ServerFacts, connection: Connection, key: bytes) -> ServerFacts:
    """
    Add whether the server runs a Python model under this key.

    Call this for an engine only: INFO can crash RedisAI, see above.
    """
    [info] = connection.pipeline(key, [["INFO", "ai_engine"]])
    found = info if isinstance(info, dict) else {}
    told = {"on": None, "off": NOT_ALLOWED}.get(str(found.get("ai_python_models")), NOT_TOLD)
    keys = found.get("ai_python_model_keys", "*")
    keys = ",".join(map(str, keys)) if isinstance(keys, list) else str(keys)  # newer versions of redis-py split it
    if told is None and not KeyPatterns(keys).allow(key):
        told = ELSEWHERE.format(keys=keys)
    return replace(facts, python_models=told)


def _version_text(value: Any) -> str | None:
    return None if value is None else text(value) if isinstance(value, bytes) else str(value)


def _values(reply: Any) -> Iterable[Any]:
    """Return the values in a CONFIG GET reply, which is a list, or a dict if redis-py or RESP3 made it one."""
    if isinstance(reply, dict):
        return reply.values()
    return reply[1::2] if isinstance(reply, list) else ()


def _numbers(values: Iterable[Any]) -> list[int]:
    found = []
    for value in values:
        if isinstance(value, int | bytes | str) and str(text(value) if isinstance(value, bytes) else value).isdigit():
            found.append(int(value))
    return [number for number in found if number > 0]
