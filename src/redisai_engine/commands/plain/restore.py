"""
RESTORE of a payload that a real RedisAI's DUMP returned, and so MIGRATE from one: decoded into the engine's own keys.

Redis gets the command first. It checks access rights, arguments, the payload's checksum and whether the key is free.
Only then does it find that it doesn't know the module, and at that one error the engine takes over. So a model is
loaded before anything is replaced, and payloads of other kinds never get here.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.commands.ai.model import put_model
from redisai_engine.commands.ai.script import put_script
from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import look_at_writable
from redisai_engine.commands.invalidation import relay_and_invalidate
from redisai_engine.commands.steps import Compute, Plan, UpstreamCommand, refuse_error
from redisai_engine.commands.table import WRITE, Keys, command
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.dump import Dumped, DumpedModel, DumpedScript, DumpError, decode_dump, is_dump
from redisai_engine.protocol.tensor import Tensor
from redisai_engine.redis import store

_UNKNOWN_MODULE = b"-ERR Bad data format\r\n"


@dataclass(frozen=True, slots=True)
class _Request:
    """
    RESTORE's arguments, which Redis has accepted.

    IDLETIME and FREQ are dropped: only RESTORE itself can set them.
    """

    key: bytes
    ttl_ms: bytes  # b"0": the key doesn't expire
    replace: bool
    absolute: bool  # `ttl_ms` is a point in time

    @property
    def expiry(self) -> UpstreamCommand:
        """The command that sets the key's expiry."""
        if self.ttl_ms == b"0":
            return (b"PERSIST", self.key)
        return (b"PEXPIREAT" if self.absolute else b"PEXPIRE", self.key, self.ttl_ms)


def restore(client: Client, arguments: Sequence[bytes]) -> Plan:
    """RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]"""
    raw = yield from relay_and_invalidate(client, arguments)
    if raw != _UNKNOWN_MODULE:
        return raw
    most = client.engine.settings.request_limit
    dumped = yield Compute(lambda: _decode(arguments[3], most))  # decoding a large payload takes seconds
    options = {word.upper() for word in arguments[4:]}
    request = _Request(arguments[1], arguments[2], b"REPLACE" in options, b"ABSTTL" in options)
    if isinstance(dumped, Tensor):
        return (yield from _restore_tensor(client, request, dumped))
    if isinstance(dumped, DumpedModel):
        return (yield from _restore_model(client, request, dumped))
    if isinstance(dumped, DumpedScript):
        return (yield from _restore_script(client, request, dumped))
    return raw


for _name in ("RESTORE", "RESTORE-ASKING"):  # a cluster node that migrates a slot sends the second
    command(
        _name,
        arity=(1, None),
        flags=WRITE,
        keys=Keys(1),
        concerns=lambda arguments: len(arguments) > 3 and is_dump(arguments[3]),
        summary="Accepts payloads of RedisAI's DUMP",
    )(restore)


def _decode(payload: bytes, most: int) -> Dumped | None:
    try:
        return decode_dump(payload, most)
    except DumpError as error:
        raise CommandError(texts.BAD_DUMP % error) from None


def _restore_tensor(client: Client, request: _Request, tensor: Tensor) -> Plan:
    condition = () if request.replace else (b"NX",)
    expiry = () if request.ttl_ms == b"0" else (b"PXAT" if request.absolute else b"PX", request.ttl_ms)
    (stored,) = yield [(b"SET", request.key, store.tensor_value(tensor), *condition, *expiry)]
    client.engine.models.forget(client.database, request.key)
    refuse_error(stored)
    if stored is None:
        raise CommandError(texts.BUSY_KEY)
    return replies.OK


def _restore_model(client: Client, request: _Request, dumped: DumpedModel) -> Plan:
    before = yield from _clearing(request, store.MODEL)
    names_given = dumped.backend == "TF"  # other backends read the names from the model itself
    asked = store.ModelInfo(
        dumped.backend,
        dumped.device,
        dumped.tag,
        dumped.batch_size,
        dumped.min_batch_size,
        dumped.min_batch_timeout_ms,
        dumped.inputs if names_given else (),
        dumped.outputs if names_given else (),
        len(dumped.blob),
    )
    return (yield from put_model(client, request.key, asked, dumped.blob, expiry=request.expiry, before=before))


def _restore_script(client: Client, request: _Request, dumped: DumpedScript) -> Plan:
    before = yield from _clearing(request, store.SCRIPT)
    meta = store.ScriptInfo(dumped.device, dumped.tag, dumped.entry_points)
    return (yield from put_script(client, request.key, meta, dumped.source, expiry=request.expiry, before=before))


def _clearing(request: _Request, kind: store.Kind) -> Generator[Any, Any, list[UpstreamCommand]]:
    """
    Return the commands that make room for a hash of this kind where REPLACE meets another kind of key.

    Raise UpstreamError if Redis refuses to write a hash: so far it has allowed only RESTORE.
    """
    marker, exists = yield from look_at_writable(request.key, kind, any_type=True)
    if request.replace and exists and not isinstance(marker, bytes):
        return [(b"DEL", request.key)]
    return []
