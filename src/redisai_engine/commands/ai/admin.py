"""AI.INFO and AI.CONFIG: run statistics, and the settings that a client may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from redisai_engine.backends.registry import BACKENDS
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.words import integer, text
from redisai_engine.commands.steps import AskPeers, Limited, Plan, refuse_error
from redisai_engine.commands.table import NO_KEYS, READ, Keys, command
from redisai_engine.errors import CommandError, UpstreamError
from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA

Info = store.ModelInfo | store.ScriptInfo


@command(
    "AI.INFO",
    arity=(2, 3),
    flags=READ,
    keys=Keys(1),
    waits=True,
    summary="Returns a model's or script's run statistics",
    made_of=("HMGET",),
)
def info(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.INFO key [RESETSTAT]"""
    names = (store.ID, store.META, store.SCRIPT_ID, store.SCRIPT_META)
    (values,) = yield Limited([(b"HMGET", arguments[1], *names)], MAX_METADATA)
    if isinstance(values, ReplyError) and values.text.startswith("WRONGTYPE"):
        raise CommandError(texts.INFO_MISSING)
    refuse_error(values)
    meta = _described(*values)
    key = arguments[1]
    which: list[Any] = [client.database, key.decode("latin-1"), meta.id]
    if len(arguments) == 3 and arguments[2].upper() == b"RESETSTAT":
        client.engine.statistics(client.database, key, meta.id.encode()).reset()
        yield AskPeers({"reset": which})
        return replies.OK
    others = yield AskPeers({"figures": which})
    told: list[dict[str, Any]] = [client.engine.told_of(*which), *others]
    refusal = client.engine.quarantine.refusal(meta.id.encode())
    problem = client.engine.models.tracking_problem
    notes = {
        "memory": _memory(meta, told),
        "failed": next((each["failed"] for each in told if each.get("failed")), ""),
        "refused": refusal.wire if refusal is not None else "",
        "tracking": problem and f"off: {problem}",
    }
    return _info_reply(key, _as_placed(client, key, meta), _added(told), notes)


def _as_placed(client: Client, key: bytes, meta: Info) -> Info:
    """Return a description that says whether the model is isolated, as far as it is known if it didn't ask for it."""
    if not isinstance(meta, store.ModelInfo):
        return meta
    model = client.engine.models.loaded(client.database, key, meta.id.encode())
    if model is None:
        return meta
    return replace(meta, isolate=meta.isolate or client.engine.placement.is_isolated(meta.backend, model.loaded))


def _memory(meta: Info, told: list[dict[str, Any]]) -> str:
    """Return what the workers of a Python model take of the memory, in bytes; nothing of others, as in RedisAI."""
    is_python = isinstance(meta, store.ModelInfo) and meta.backend == "PYFUNC"
    return str(sum(each.get("taken", 0) for each in told)) if is_python else ""


def _described(model_id: Any, model: Any, script_id: Any, script: Any) -> Info:
    if model_id is not None:
        return store.parse_meta(model, model_id)
    if script_id is None:
        raise CommandError(texts.INFO_MISSING)
    return store.parse_script_meta(script, script_id)


def _added(told: list[dict[str, Any]]) -> RunStatistics:
    """Add up the figures of all worker processes."""
    return RunStatistics(**{each.name: sum(worker[each.name] for worker in told) for each in fields(RunStatistics)})


def _info_reply(key: bytes, meta: Info, figures: RunStatistics, notes: dict[str, str]) -> bytes:
    """Encode the reply. `notes` are names and texts of what isn't as usual, behind RedisAI's own fields."""
    is_model = isinstance(meta, store.ModelInfo)
    return replies.array(
        [
            *(replies.text("key"), replies.bulk(key)),
            *(replies.text("type"), replies.text("MODEL" if is_model else "SCRIPT")),
            *(replies.text("backend"), replies.text(meta.backend if isinstance(meta, store.ModelInfo) else "TORCH")),
            *(replies.text("device"), replies.text(meta.device)),
            *(replies.text("tag"), replies.text(meta.tag)),
            *(replies.text("duration"), replies.integer(figures.duration_us)),
            *(replies.text("samples"), replies.integer(figures.samples if is_model else -1)),
            *(replies.text("calls"), replies.integer(figures.calls)),
            *(replies.text("errors"), replies.integer(figures.errors)),
            *(
                (replies.text("isolate"), replies.text("yes"))
                if isinstance(meta, store.ModelInfo) and meta.isolate
                else ()
            ),
            *(replies.text(word) for name, note in notes.items() if note for word in (name, note)),
        ]
    )


_READING = (b"PING",)  # requires only that Redis lets the client in
_CHANGING = (b"CONFIG", b"SET", b"ai-engine", b"")  # no such setting exists; requires the right to change Redis' own


@command(
    "AI.CONFIG",
    arity=(2, None),
    flags=("write",),
    keys=NO_KEYS,
    summary="Reads and changes settings",
    made_of=("PING", "CONFIG"),
)
def config(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.CONFIG GET name | MODEL_CHUNK_SIZE bytes | BACKENDSPATH path | LOADBACKEND name path"""
    words = list(arguments[1:])
    subcommand = words.pop(0).upper()
    (answer,) = yield [_READING if subcommand == b"GET" else _CHANGING]
    if isinstance(answer, ReplyError) and answer.text.startswith(("NOAUTH", "NOPERM")):
        raise UpstreamError(answer.text)
    if subcommand == b"GET":
        return _get(client, words)
    if subcommand == b"MODEL_CHUNK_SIZE":
        reply = _set_chunk_size(client, words)
        yield AskPeers({"set": {"model_chunk_size": client.engine.model_chunk_size}})
        return reply
    if subcommand == b"BACKENDSPATH":
        if not words:
            raise CommandError(texts.CONFIG_PATH_MISSING)
        client.engine.backends_path = text(words[0])
        yield AskPeers({"set": {"backends_path": client.engine.backends_path}})
        return replies.OK
    if subcommand == b"LOADBACKEND":
        return _load_backend(words)
    raise CommandError(texts.CONFIG_UNKNOWN)


def _get(client: Client, words: list[bytes]) -> bytes:
    if not words:
        raise CommandError(texts.ARITY % "ai.config")
    name = words[0].upper()
    if name == b"MODEL_CHUNK_SIZE":
        return replies.integer(client.engine.model_chunk_size)
    if name == b"BACKENDSPATH":
        return replies.text(client.engine.backends_path)
    return replies.null(client.protocol)


def _set_chunk_size(client: Client, words: list[bytes]) -> bytes:
    if not words:
        raise CommandError(texts.CONFIG_CHUNK_MISSING)
    size = integer(words[0])
    if size is None or size <= 0:
        raise CommandError(texts.CONFIG_BAD_CHUNK)
    client.engine.model_chunk_size = size
    return replies.OK


def _load_backend(words: list[bytes]) -> bytes:
    """
    Raise an error: LOADBACKEND can't succeed here.

    Backends load themselves on first use, and a path to one of RedisAI's C libraries can't name one of ours.
    """
    if len(words) < 2:
        raise CommandError(texts.ARITY % "ai.config")
    if text(words[0]).upper() not in BACKENDS:
        raise CommandError(texts.BAD_BACKEND)
    raise CommandError(texts.CONFIG_LOAD_FAILED)
