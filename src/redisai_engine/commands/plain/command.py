"""
COMMAND: what Redis reports about its commands, and the same for RedisAI's, read from the table.

Redis is always asked first, so that its access rights and its errors apply. Redis 7 reports more about a command than
Redis 6.2. Our rows take the form of the rows that Redis sends in the same reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redisai_engine.commands.client import Client
from redisai_engine.commands.plain.modules import MODULE
from redisai_engine.commands.steps import Pass, Plan, Relay, refuse_error
from redisai_engine.commands.table import COMMANDS, NO_KEYS, READ, Command, command
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import elements
from redisai_engine.protocol.patterns import matches
from redisai_engine.protocol.requests import encode

_REDIS_6_ROW = 7  # elements of a command's row in Redis 6.2; Redis 7 has ten
_KEY_FLAGS = ("RW", "access", "update")  # what Redis reports for any module's keys


@command("COMMAND", arity=(1, None), flags=READ, keys=NO_KEYS, summary="Reports RedisAI's commands too")
def command_(client: Client, arguments: Sequence[bytes]) -> Plan:
    """COMMAND [COUNT | DOCS name ... | GETKEYS command ... | GETKEYSANDFLAGS command ... | INFO name ... | LIST]"""
    subcommand = arguments[1].upper() if len(arguments) > 1 else b""
    return (yield from _SUBCOMMANDS.get(subcommand, _relay)(client, arguments))


def _relay(client: Client, arguments: Sequence[bytes]) -> Relay:
    (raw,) = yield Pass(encode(arguments))
    return bytes(raw)


def _is_error(raw: bytes) -> bool:
    return raw.startswith(b"-")


# COMMAND, COMMAND COUNT, COMMAND INFO


def _all(client: Client, arguments: Sequence[bytes]) -> Plan:
    raw = yield from _relay(client, arguments)
    rows = [] if _is_error(raw) else elements(raw)
    if not rows:
        return raw
    return replies.array([*rows, *(_row(row, rows[0], client.protocol) for row in COMMANDS.values())])


def _count(client: Client, arguments: Sequence[bytes]) -> Plan:
    raw = yield from _relay(client, arguments)
    return raw if _is_error(raw) else replies.integer(int(raw[1:]) + len(COMMANDS))


def _info(client: Client, arguments: Sequence[bytes]) -> Plan:
    names = arguments[2:]
    if not names:
        return (yield from _all(client, arguments))
    raw = yield from _relay(client, [*arguments, b"GET"])  # which Redis knows: its row shows the form
    if _is_error(raw):
        return raw
    *found, known = elements(raw)
    for place, name in enumerate(names):
        row = COMMANDS.get(name.upper())
        if row is not None:
            found[place] = _row(row, known, client.protocol)
    return replies.array(found)


def _row(row: Command[Client], example: bytes, protocol: int) -> bytes:
    """
    Encode a command's row of COMMAND INFO, in the same form as `example`.

    The arity stays open (-1), as a module's commands have it.
    """
    is_redis_6 = len(elements(example)) == _REDIS_6_ROW
    flags = [*row.flags, *(() if is_redis_6 else ("module",)), *(("movablekeys",) if row.keys.find else ())]
    keys = row.keys
    fields = [
        replies.text(row.name.lower()),
        replies.integer(-1),
        _words(flags, protocol),
        replies.integer(keys.first),
        replies.integer(keys.first if keys.last is None else keys.last),
        replies.integer(keys.step),
        _words((), protocol),  # categories
    ]
    if not is_redis_6:
        tips, subcommands = _words((), protocol), _words((), protocol)
        fields += [tips, _key_specifications(row, protocol), subcommands]
    return replies.array(fields)


def _words(words: Sequence[str], protocol: int) -> bytes:
    return replies.unordered([replies.simple(word) for word in words], protocol)


def _key_specifications(row: Command[Client], protocol: int) -> bytes:
    if not row.keys.first:
        return replies.unordered([], protocol)

    def named(**values: bytes) -> bytes:
        return replies.mapping([(replies.text(name), value) for name, value in values.items()], protocol)

    zero, step = replies.integer(0), replies.integer(row.keys.step)
    begin = named(type=replies.text("index"), spec=named(index=replies.integer(row.keys.first)))
    end = named(type=replies.text("range"), spec=named(lastkey=zero, keystep=step, limit=zero))
    flags = _words([*_KEY_FLAGS, *(("variable_flags",) if row.keys.find else ())], protocol)
    return replies.unordered([named(flags=flags, begin_search=begin, find_keys=end)], protocol)


# COMMAND LIST, COMMAND DOCS: both are new in Redis 7, so Redis 6.2 answers with an error


def _list(client: Client, arguments: Sequence[bytes]) -> Plan:
    raw = yield from _relay(client, arguments)
    if _is_error(raw):
        return raw
    names = [replies.text(row.name.lower()) for row in COMMANDS.values() if _is_listed(row, arguments[3:])]
    return b"%c%d\r\n%b" % (raw[:1], len(elements(raw)) + len(names), b"".join([*elements(raw), *names]))


def _is_listed(row: Command[Client], condition: Sequence[bytes]) -> bool:
    """
    Return whether COMMAND LIST names a command.

    `condition` is what follows FILTERBY, which Redis has already accepted. No command of a module is in an ACL
    category.
    """
    if not condition:
        return True
    kind, value = condition[0].upper(), condition[1]
    if kind == b"MODULE":
        return value == MODULE.encode() and row.in_redisai
    return kind == b"PATTERN" and matches(value.lower(), row.name.lower().encode())  # case doesn't count, as in Redis


def _docs(client: Client, arguments: Sequence[bytes]) -> Plan:
    raw = yield from _relay(client, arguments)
    if _is_error(raw):
        return raw
    named = [COMMANDS.get(name.upper()) for name in arguments[2:]] if arguments[2:] else list(COMMANDS.values())
    parts = elements(raw)
    pairs = [*zip(parts[::2], parts[1::2], strict=True)]
    pairs += [(replies.text(row.name.lower()), _documentation(row, client.protocol)) for row in named if row]
    return replies.mapping(pairs, client.protocol)


def _documentation(row: Command[Client], protocol: int) -> bytes:
    facts = {"summary": row.summary, "group": "module", "module": MODULE}
    return replies.mapping([(replies.text(name), replies.text(value)) for name, value in facts.items()], protocol)


# COMMAND GETKEYS


def _getkeys(client: Client, arguments: Sequence[bytes]) -> Plan:
    row = COMMANDS.get(arguments[2].upper()) if len(arguments) > 3 else None
    if row is None:
        return (yield from _relay(client, arguments))
    refuse_error(*(yield [(*arguments[:2], b"GET", b"key")]))  # shows whether this client may ask at all
    if not row.keys.first:
        raise CommandError(texts.NO_KEYS)
    keys = row.keys.of(arguments[2:])
    if not keys:
        raise CommandError(texts.KEYS_MISSING)
    if arguments[1].upper() == b"GETKEYS":
        return replies.array([replies.bulk(key) for key in keys])
    flags = _words(_KEY_FLAGS, client.protocol)
    return replies.array([replies.array([replies.bulk(key), flags]) for key in keys])


_SUBCOMMANDS: dict[bytes, Callable[[Client, Sequence[bytes]], Plan]] = {
    b"": _all,
    b"COUNT": _count,
    b"INFO": _info,
    b"LIST": _list,
    b"DOCS": _docs,
    b"GETKEYS": _getkeys,
    b"GETKEYSANDFLAGS": _getkeys,
}
