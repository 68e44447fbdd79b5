"""
AI.SCRIPTSTORE, AI.SCRIPTGET, AI.SCRIPTDEL, AI._SCRIPTSCAN and the deprecated AI.SCRIPTSET.

A script is one hash (`redis/store.py`). It is compiled before it is stored, so that everything in the store can run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from redisai_engine.backends.scripts import Script
from redisai_engine.backends.torch_script_source import MAX_SOURCE
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.words import Words, text, whole_number
from redisai_engine.commands.hashes import check_writable, delete_hash, read_fields, scanned, write_hash
from redisai_engine.commands.steps import Compute, Plan, UpstreamCommand
from redisai_engine.commands.table import DELETE, NO_KEYS, READ, WRITE, Keys, command
from redisai_engine.errors import BadMetadata, CommandError
from redisai_engine.execution.quarantine import digest_of
from redisai_engine.protocol import replies, texts
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA

_STORING = ("EXISTS", "HGET", "PTTL", "HSET", "HDEL", "PERSIST")


@command(
    "AI.SCRIPTSTORE",
    arity=(8, None),
    flags=WRITE,
    keys=Keys(1),
    summary="Stores a script under a key",
    made_of=_STORING,
)
def scriptstore(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTSTORE key device [TAG tag] ENTRY_POINTS count function ... SOURCE source"""
    words = Words(list(arguments[2:]))
    device, tag = _device_and_tag(words)
    entry_points = _entry_points(words)
    return (yield from _store(client, arguments[1], store.ScriptInfo(device, tag, entry_points), _source(words)))


@command(
    "AI.SCRIPTSET",
    arity=(5, 7),
    flags=WRITE,
    keys=Keys(1),
    summary="Deprecated form of AI.SCRIPTSTORE",
    made_of=_STORING,
)
def scriptset(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTSET key device [TAG tag] SOURCE source"""
    if len(arguments) == 6:  # TAG and its value come together
        raise CommandError(texts.ARITY % "ai.scriptset")
    words = Words(list(arguments[2:]))
    meta = store.ScriptInfo(*_device_and_tag(words))
    return (yield from _store(client, arguments[1], meta, _source(words)))


def _device_and_tag(words: Words) -> tuple[str, str]:
    device = text(words.take() or b"")
    return device, text(words.take() or b"") if words.take_if(b"TAG") else ""


def _entry_points(words: Words) -> tuple[str, ...]:
    if not words.take_if(b"ENTRY_POINTS"):
        raise CommandError(texts.ENTRY_POINTS_MISSING)
    count = whole_number(words.take() or b"")
    if count is None:
        raise CommandError(texts.BAD_ENTRY_POINT_COUNT)
    if not 0 <= count <= len(words.rest):
        raise CommandError(texts.ENTRY_POINTS_MISSING)
    return tuple(map(text, words.take_many(count)))


def _source(words: Words) -> str:
    """Read the source. Words after it are ignored, as in RedisAI."""
    source = words.take() if words.take_if(b"SOURCE") else None
    if source is None:
        raise CommandError(texts.SOURCE_MISSING)
    return text(source)


def _store(client: Client, key: bytes, meta: store.ScriptInfo, source: str) -> Plan:
    if meta.device[:3].upper() not in ("CPU", "GPU"):
        raise CommandError(texts.UNSUPPORTED_DEVICE)
    yield from check_writable(client, key, store.SCRIPT)
    return (yield from put_script(client, key, meta, source, expiry=(b"PERSIST", key)))


def put_script(
    client: Client,
    key: bytes,
    meta: store.ScriptInfo,
    source: str,
    *,
    expiry: UpstreamCommand,
    before: Sequence[UpstreamCommand] = (),
) -> Plan:
    """
    Compile a script and write it under the key, replacing an older one. Raise ModelLoadError if it doesn't compile.

    `expiry` and `before` are passed on to `write_hash`, which raises the other errors.
    """
    script = yield from compiled(client, meta, source)
    yield from write_hash(client, key, store.SCRIPT, store.script_fields(meta, source), expiry=expiry, before=before)
    client.engine.scripts.keep(client.database, key, meta.id.encode(), script, len(source))
    return replies.OK


def compiled(client: Client, meta: store.ScriptInfo, source: str) -> Generator[Any, Any, Script]:
    """Compile a script. Raise ModelLoadError if it doesn't compile."""
    engine = client.engine
    compile_: Callable[[], Script] = partial(
        engine.placement.compile_script, source, meta.entry_points, meta.device, engine.backend_settings
    )
    if not engine.placement.is_hosted("TORCH"):
        digest = digest_of("SCRIPT", source.encode("utf-8", "surrogateescape"))
        compile_ = engine.quarantine.guarded(meta.id.encode(), digest, compile_)
    script: Script = yield Compute(compile_)
    return script


@command(
    "AI.SCRIPTGET",
    arity=(2, 4),
    flags=READ,
    keys=Keys(1),
    single_step=True,
    summary="Returns a script's metadata and source",
    made_of=("EXISTS", "HMGET"),
)
def scriptget(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTGET key [META] [SOURCE]"""
    words = {word.upper() for word in arguments[2:]} & {b"META", b"SOURCE"} or {b"META", b"SOURCE"}
    meta, source = yield from read_script(client, arguments[1], with_source=b"SOURCE" in words)
    if words == {b"SOURCE"}:
        return replies.bulk(source)
    described = [
        *(replies.text("device"), replies.text(meta.device)),
        *(replies.text("tag"), replies.text(meta.tag)),
        *(replies.text("Entry Points"), replies.texts(meta.entry_points)),
    ]
    return replies.array(described + [replies.text("source"), replies.bulk(source)] * (b"SOURCE" in words))


def read_script(
    client: Client, key: bytes, *, with_source: bool
) -> Generator[Any, Any, tuple[store.ScriptInfo, bytes]]:
    """Read a script. Raise CommandError if there is no key, WrongType if it holds no script, BadMetadata."""
    names = (*store.SCRIPT.head, store.SCRIPT_SOURCE) if with_source else store.SCRIPT.head
    most = MAX_METADATA + MAX_SOURCE if with_source else MAX_METADATA
    _, id_, meta, *source = yield from read_fields(client, key, names, missing=texts.SCRIPT_MISSING, most=most)
    if source == [None]:
        raise BadMetadata("is missing", "source")
    return store.parse_script_meta(meta, id_), source[0] if source else b""


@command(
    "AI.SCRIPTDEL",
    arity=(2, 2),
    flags=DELETE,
    keys=Keys(1),
    single_step=True,
    summary="Deletes a script",
    made_of=("EXISTS", "HDEL"),
)
def scriptdel(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTDEL key"""
    reply = yield from delete_hash(client, arguments[1], store.SCRIPT, texts.SCRIPT_MISSING)
    client.engine.scripts.drop(client.database, arguments[1])
    return reply


@command(
    "AI._SCRIPTSCAN",
    arity=(1, 1),
    flags=READ,
    keys=NO_KEYS,
    summary="Lists scripts with their tags",
    made_of=("SCAN", "HGET"),
)
def scriptscan(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI._SCRIPTSCAN"""
    return (yield from scanned(client, store.SCRIPT))
