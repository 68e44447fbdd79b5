"""
MULTI, EXEC, DISCARD and WATCH: what is queued in between, and how EXEC's reply is rewritten.

Theory of operation. Redis queues the client's plain commands unchanged and, for an AI command, those of its plan; the
client sees one QUEUED for each of its own commands. EXEC's reply has one element for each command that Redis queued.
The elements of an AI command are taken out, its body is resumed with them, and its reply takes their place. A body that
then needs more from Redis (to repair what it saw too late) gets it before EXEC is answered, in the database that the
command ran in.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from redisai_engine.commands.connection import ConnectedClient
from redisai_engine.commands.invalidation import HAS_RENAMED
from redisai_engine.commands.plain.connection import mark_writes
from redisai_engine.commands.refusals import placeholder
from redisai_engine.commands.steps import Encode, Pass, Permit, Plan, Relay, relay
from redisai_engine.commands.table import Command, InTransaction, connection_command
from redisai_engine.commands.transaction import Entry, Transaction
from redisai_engine.errors import CommandError, EngineError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import ReplyError, decode, elements
from redisai_engine.protocol.requests import encode

_LARGE_BYTES = 2**16  # of a reply to EXEC; a larger one is cut into its elements in a thread
_NOTHING_RAN = b"*-1\r\n"
_ENTRIES_AT_ONCE = 1000  # of a transaction are answered without a pause


@connection_command("WATCH", in_transaction=InTransaction.NOW)
def watch(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """WATCH key ... is never queued: inside MULTI it is a harmless error."""
    return (yield from relay(arguments))


@connection_command("MULTI", in_transaction=InTransaction.NOW)
def multi(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """MULTI"""
    mark_writes(connection)
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        connection.transaction = Transaction()
    return bytes(raw)


@connection_command("EXEC", in_transaction=InTransaction.NOW)
def exec_(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """EXEC"""
    transaction = connection.transaction
    connection.transaction = None
    (raw,) = yield Pass(encode(arguments))
    if transaction is None:
        return bytes(raw)
    models = connection.engine.models
    models.forget_keys(models.tracked_keys if transaction.changes_any_key else transaction.changed_keys)
    _follow_renames(connection, transaction, raw)
    if transaction.is_plain:
        return bytes(raw)
    return (yield from finish(connection, transaction, raw))


def _follow_renames(connection: ConnectedClient, transaction: Transaction, raw: bytes) -> None:
    """
    Keep models whose keys were renamed in memory under their new ones.

    What else the transaction did to those keys doesn't matter: a run asks Redis which version it is to take.
    """
    if transaction.selects or len(raw) > _LARGE_BYTES or not any(entry.renames for entry in transaction.entries):
        return
    counts = [entry.count for entry in transaction.entries]
    parts = elements(raw) if raw.startswith(b"*") and raw != _NOTHING_RAN else []
    if len(parts) != sum(counts):
        return
    for entry, end in zip(transaction.entries, accumulate(counts), strict=True):
        if entry.renames is not None and parts[end - 1] in HAS_RENAMED:
            connection.engine.moved(connection.database, *entry.renames)


@connection_command("DISCARD", in_transaction=InTransaction.NOW)
def discard(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """DISCARD"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        connection.transaction = None
    return bytes(raw)


# Queueing


def queue(connection: ConnectedClient, row: Command[ConnectedClient], arguments: Sequence[bytes]) -> Plan:
    """Queue the plan of a command of the table, and answer QUEUED. Inside MULTI this is the body of all of them."""
    assert connection.transaction is not None
    entry = Entry()
    try:
        if row.in_transaction is InTransaction.REFUSE:
            raise CommandError(texts.IN_TRANSACTION)
        entry.plan = row.plan(connection, arguments)
        commands: Any = yield from _first_look_at_redis(entry)
    except _Refused as refused:
        return replies.error(refused.args[0])
    except EngineError as error:  # RedisAI reports it as an element of EXEC's reply; the placeholder is queued for it
        entry.plan, entry.reply, commands = None, replies.error(error.wire), [placeholder(arguments)]
    except _Finished as finished:
        entry.plan, entry.reply, commands = None, replies.joined(finished.args[0]), [placeholder(arguments)]
    entry.raw = isinstance(commands, Pass)
    answers = yield commands
    entry.count = entry.permits + len(answers)
    for answer in answers:
        decoded = decode(answer) if entry.raw else answer
        if isinstance(decoded, ReplyError):  # Redis will abort EXEC, so the entry isn't listed
            return replies.error(decoded.text)
    connection.transaction.entries.append(entry)
    connection.transaction.selects |= arguments[0].upper() == b"SELECT"
    return replies.QUEUED


def _first_look_at_redis(entry: Entry) -> Generator[Any, Any, Any]:
    """Run a plan up to its first commands for Redis and return those. Anything that it asks for earlier is done now."""
    plan = entry.plan
    assert plan is not None
    step = _next(plan, None)
    while not isinstance(step, list | Pass):
        if isinstance(step, Permit):
            yield from _permit(entry, step)
            step = _next(plan, None)
            continue
        try:
            outcome = yield step
        except EngineError as error:
            step = plan.throw(error)
        else:
            step = _next(plan, outcome)
    return step


def _permit(entry: Entry, step: Permit) -> Generator[Any, Any, None]:
    """Queue the commands of a Permit. Raise _Refused if Redis refuses one; it then aborts the transaction itself."""
    answers = yield step.commands
    entry.permits += len(answers)
    for answer in answers:
        if isinstance(answer, ReplyError):
            raise _Refused(answer.text)


class _Refused(Exception):
    """Redis refused to queue this command."""


class _Finished(Exception):
    """A plan has ended. A generator can't let StopIteration out: Python would turn it into a RuntimeError."""


def _next(plan: Plan, value: Any) -> Any:
    try:
        return plan.send(value)
    except StopIteration as stop:
        raise _Finished(stop.value) from None


#: Lets other clients have their turn: what is done in a thread is nothing.
_REST = Encode(lambda: None)


def finish(connection: ConnectedClient, transaction: Transaction, raw: bytes) -> Plan:
    """Build the client's reply to EXEC from Redis' own."""
    if not raw.startswith(b"*") or raw == _NOTHING_RAN:  # nothing ran: an error, or a watched key has changed
        return raw
    parts = (yield Encode(partial(elements, raw))) if len(raw) > _LARGE_BYTES else elements(raw)
    if len(parts) != sum(entry.count for entry in transaction.entries):
        return raw
    answers: list[bytes] = []
    start = 0
    for number, entry in enumerate(transaction.entries, 1):
        if number % _ENTRIES_AT_ONCE == 0:
            yield _REST
        mine = parts[start : start + entry.count]
        start += entry.count
        if entry.plan is not None:
            answers.append((yield from _go_on(connection, entry, mine, selects=transaction.selects)))
        else:
            answers.append(entry.reply or mine[0])
    if transaction.selects:  # `_go_on` may have left Redis in another database than the last one
        yield [_select(connection)]
    return replies.array(answers)


def _select(connection: ConnectedClient) -> tuple[bytes, bytes]:
    return b"SELECT", b"%d" % connection.database


def _go_on(connection: ConnectedClient, entry: Entry, mine: list[bytes], *, selects: bool) -> Relay:
    assert entry.plan is not None
    mine = mine[entry.permits :]
    value: Any = mine if entry.raw else [decode(part) for part in mine]
    try:
        while True:
            step = _next(entry.plan, value)
            if selects:
                # EXEC left Redis in the last database; the SELECTs before this entry have set `connection.database`.
                yield [_select(connection)]
            value = yield step
    except _Finished as finished:
        return replies.joined(finished.args[0])
    except EngineError as error:
        return replies.error(error.wire)
