"""
Deployments on the server: a model and its record, read together and changed together.

Theory of operation. A change runs on a dedicated connection:

1. WATCH the keys of the model and the record.
2. Read their TYPE, because AI.MODELSTORE onto a key of another type crashes RedisAI 1.2.7.
3. MULTI; AI.MODELSTORE, DEL, HSET; EXEC. The engine already has the model, under the key of its trial, which is watched
   too: RENAME, PERSIST, DEL, HSET. RedisAI would go on listing it by its old key.

If a watched key has changed in the meantime, EXEC does nothing and the change starts over. So if several clients create
the same name, exactly one wins. EXEC doesn't roll back, so every element of its reply is checked: a failed
AI.MODELSTORE or RENAME leaves the old model in place, so the old record is put back. Signals are deferred while EXEC is
in flight: before it nothing has happened, after it everything.

If the connection is lost before EXEC, nothing has happened. If it is lost after that, the server may have carried out
EXEC, or may still do so. So the record is written again as it is: it is watched, so the EXEC does nothing from then on
unless it was carried out before, which the record's id shows. Then a change without effect is started over, once.

Invariant: the record of one deployment never exists with the model of another, not even after a kill at any point.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from mlflow_redisai import deadline, errors, interrupts
from mlflow_redisai.server import commands, progress, translation
from mlflow_redisai.server.commands import MODEL_TYPE, Command, ModelMeta, ModelToStore, raw, text
from mlflow_redisai.server.connection import Connection, WatchedTransaction, is_loss
from mlflow_redisai.server.record import Record
from redisai_engine.codec import record

ATTEMPTS = 20  # changes by other clients between our WATCH and EXEC before giving up
# How long a model under verification outlives a killed plugin. The timeout of a prediction is added.
VERIFICATION_MS = 60_000

T = TypeVar("T")

RecordFields = dict[bytes, bytes]


@dataclass(frozen=True)
class Deployment:
    """A stored model: RedisAI's metadata, and the record if there is one that belongs to it."""

    name: str
    meta: ModelMeta
    record: Record | None
    # The id in the record's key, whether or not that record belongs to the model.
    record_id: bytes | None
    # The server's own id for this version of the model, if it reports one.
    version: bytes | None

    @property
    def identity(self) -> tuple[bytes | None, str]:
        """
        Differs between any two deployments that the plugin made, and from other clients' models as far as META shows
        it.
        """
        return self.record_id, self.meta.fingerprint()


@dataclass(frozen=True)
class Prepared:
    """A deployment that is ready to take its name. `trial` is the key under which the server may still have it."""

    model: ModelToStore
    record: Record
    trial: bytes | None = None


class _Changed(Exception):
    """The deployment is no longer the one that the caller read."""


class Deployments:
    """All deployments on one server. Every method raises RedisAIError only, never redis-py's exceptions."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.where = connection.where
        self._versions_told: bool | None = None

    # -- reading ----------------------------------------------------------------------------------

    def read(self, name: str) -> Deployment:
        """
        Read a deployment, model and record at the same moment.

        Raise DeploymentMissing, NotAModel or UnreadableRecord.
        """
        key = raw(name)
        ask: list[Command] = [["HGETALL", record.record_key(key)], ["AI.MODELGET", key, "META"]]
        if self.is_engine(key):
            ask.append(["AI._MODELID", key])
        fields, meta, *versions = self.connection.pipeline(key, ask, atomic=True)
        if isinstance(meta, Exception):
            raise self._unreadable(name, meta) from meta
        with self._understood():
            return _deployment(
                name,
                ModelMeta.from_reply(meta),
                {} if isinstance(fields, Exception) else fields,
                next((version for version in versions if isinstance(version, bytes)), None),
            )

    def is_engine(self, key: bytes) -> bool:
        """Return whether the server is the engine: only that has AI._MODELID. The answer is cached."""
        if self._versions_told is None:
            # Not COMMAND INFO: in RESP3 its sets of maps crash the process with hiredis 2.3.
            [keys] = self.connection.exchange(key, [["COMMAND", "GETKEYS", "AI._MODELID", key]])
            self._versions_told = keys == [key]
        return self._versions_told

    def check_isolation(self, name: str) -> None:
        """Raise InvalidRequest if the server can't give a model a process of its own. Only the engine can."""
        if not self.is_engine(raw(name)):
            raise errors.InvalidRequest(
                f"option isolate=yes needs mlflow-redisai's engine; the server at {self.where} isn't one and runs all "
                "models in its own process; omit the option"
            )

    def blob(self, name: str) -> bytes:
        """Fetch the stored model's bytes."""
        reply = self.connection.call(raw(name), "AI.MODELGET", raw(name), "BLOB", otherwise=errors.ModelFailed)
        with self._understood():
            return commands.joined_blob(reply)

    def names(self) -> list[str]:
        """
        Return the sorted names of all models on the server.

        Other clients' models are included, those under verification aren't.
        """
        with self._understood():
            keys = {
                key for reply in self.connection.everywhere("AI._MODELSCAN") for key, _ in commands.scanned_names(reply)
            }
        return sorted(text(key) for key in keys if not record.is_own_key(key))

    def refuse_taken(self, name: str) -> None:
        """Raise DeploymentExists or NotAModel if the key exists."""
        kind = self.connection.call(raw(name), "TYPE", raw(name))
        self._check_kind(name, kind)
        if kind == MODEL_TYPE:
            raise errors.DeploymentExists(name, self.where)

    # -- models under verification ------------------------------------------------------------------

    @contextlib.contextmanager
    def staged(self, name: str, model: ModelToStore, timeout_ms: int) -> Iterator[tuple[bytes, ModelMeta]]:
        """
        Store a model under a temporary key for the duration of the block. Yield the key and the server's metadata.

        The key expires on its own if this process is killed. Raise ModelRefused if the server can't load the model.
        """
        key = record.verification_key(raw(name), uuid.uuid4().hex)
        expiry: Command = ["PEXPIRE", key, VERIFICATION_MS + timeout_ms]

        def store() -> list[Any] | None:
            with self.connection.transaction(key) as transaction:
                transaction.queue([model.command(key), expiry], what=f"{progress.shown(name)} (trial)")
                with interrupts.deferred():
                    return transaction.execute()

        try:
            with deadline.step("uploading the model on trial"):
                replies = self._started_over(store)  # onto the same key, so that it can be done twice
            self._raise_first(replies, errors.ModelRefused)
            meta = self.connection.call(key, "AI.MODELGET", key, "META")
            with self._understood():
                found = ModelMeta.from_reply(meta)
            yield key, found
        finally:
            self._end_trial(key)

    def _end_trial(self, key: bytes | None) -> None:
        """Delete a model's trial. An unreachable server can't; the expiry does it then."""
        if key is not None:
            with contextlib.suppress(errors.RedisAIError), deadline.for_cleaning_up():
                self.connection.call(key, "DEL", key)

    # -- changing ---------------------------------------------------------------------------------

    def create(self, name: str, prepared: Prepared) -> None:
        """Store a new deployment. Raise DeploymentExists. An interruption undoes it."""

        def free(transaction: WatchedTransaction, kind: bytes) -> None:
            if kind == MODEL_TYPE:
                raise errors.DeploymentExists(name, self.where)

        self._change(name, prepared, free, undo=self._forget)

    def replace(self, name: str, prepared: Prepared, *, instead_of: Deployment | None = None) -> bool:
        """
        Store another model or other options under the name of an existing deployment. Raise DeploymentMissing.

        With `instead_of`, replace only that deployment, and return False if it is no longer the current one.
        """

        def there(transaction: WatchedTransaction, kind: bytes) -> None:
            if kind != MODEL_TYPE:
                raise errors.DeploymentMissing(name, self.where)
            if instead_of is not None and self._identity(transaction, name) != instead_of.identity:
                raise _Changed

        try:
            self._change(name, prepared, there, undo=None)
        except _Changed:
            return False
        return True

    def delete(self, name: str) -> None:
        """
        Remove the model and the record.

        Raise DeploymentMissing if there is no model, after removing a leftover record.
        """

        def removal(kind: bytes) -> list[Command]:
            drop: Command = ["DEL", record.record_key(raw(name))]
            return [["AI.MODELDEL", raw(name)], drop] if kind == MODEL_TYPE else [drop]

        def attempt() -> bool:
            with self.connection.transaction(raw(name)) as transaction:
                kind, old = self._watch(transaction, name)
                transaction.queue(removal(kind))
                with interrupts.deferred():
                    # It is gone, or another one has the name by now: this one was deleted.
                    replies = self._execute(transaction, name, lambda: not self._is_there(name, old))
            if replies is None:
                return False
            self._raise_first(replies)
            if kind != MODEL_TYPE:
                raise errors.DeploymentMissing(name, self.where)
            return True

        self._until_done(name, attempt)

    def _change(
        self,
        name: str,
        prepared: Prepared,
        check: Callable[[WatchedTransaction, bytes], None],
        undo: Callable[[str, Record], None] | None,
    ) -> None:
        key = raw(name)
        record_key = record.record_key(key)

        def attempt(trial: bytes | None) -> bool:
            with self.connection.transaction(key) as transaction:
                kind, old = self._watch(transaction, name, *([] if trial is None else [trial]))
                check(transaction, kind)
                new = prepared.record.after(_text(old.get(b"revision")))
                change: list[Command] = [
                    *([prepared.model.command(key)] if trial is None else _renaming(trial, key)),
                    ["DEL", record_key],  # HSET alone would keep fields that only the old record has
                    ["HSET", record_key, *(item for pair in new.fields().items() for item in pair)],
                ]
                transaction.queue(change, what=progress.shown(name))
                # From here on the change may have happened on the server. Find out before a signal is delivered.
                with interrupts.deferred() as pending:
                    replies = self._execute(transaction, name, lambda: self._record_id(name) == new.id.encode())
                    with deadline.for_cleaning_up():
                        if replies is not None:
                            self._settle(name, new, old, replies)
                        if pending and undo is not None:
                            undo(name, new)
            return replies is not None

        with deadline.step("storing the model under its name"):
            trial = self._kept_trial(prepared)
            if trial is not None:
                # Who may store models need not be allowed to rename keys.
                with contextlib.suppress(errors.NotPermitted):
                    return self._until_done(name, lambda: attempt(self._kept_trial(prepared)))
            self._end_trial(prepared.trial)  # so that the server doesn't need the memory twice
            return self._until_done(name, lambda: attempt(None))

    def _kept_trial(self, prepared: Prepared) -> bytes | None:
        """Return the key of a model's trial if the engine still has it, and for long enough. Its runs don't count."""
        key = prepared.trial
        if key is None or not self.is_engine(key):
            return None
        kept, _ = self.connection.pipeline(key, [["PEXPIRE", key, VERIFICATION_MS], ["AI.INFO", key, "RESETSTAT"]])
        return key if kept == 1 else None

    def _until_done(self, name: str, attempt: Callable[[], bool]) -> None:
        """Repeat a change until no other client's change comes between. Raise ConcurrentChange."""
        for _ in range(ATTEMPTS):
            if self._started_over(attempt):
                return
        raise errors.ConcurrentChange(name, ATTEMPTS)

    def _started_over(self, change: Callable[[], T]) -> T:
        """Make a change that has no effect if it raises ServerUnreachable, and once more if the connection was lost."""
        try:
            return change()
        except errors.UnknownOutcome:
            raise
        except errors.ServerUnreachable as problem:
            if not is_loss(problem.__cause__):
                raise
            self.connection.warn_of_loss(problem.__cause__ or problem, "nothing was changed, and it is tried again")
        return change()

    def _watch(self, transaction: WatchedTransaction, name: str, *also: bytes) -> tuple[bytes, RecordFields]:
        """
        Watch the model, the record and `also`, and return the TYPE of the model's key and the record's fields.

        Raise NotAModel.
        """
        key, record_key = raw(name), record.record_key(raw(name))
        transaction.command("WATCH", key, record_key, *also)
        kind = transaction.command("TYPE", key)
        self._check_kind(name, kind)
        record_kind = transaction.command("TYPE", record_key)
        if record_kind not in (b"none", b"hash"):
            raise errors.NotAModel(text(record_key), text(record_kind), self.where)
        return kind, commands.raw_pairs(transaction.command("HGETALL", record_key))

    def _identity(self, transaction: WatchedTransaction, name: str) -> tuple[bytes | None, str]:
        record_id = transaction.command("HGET", record.record_key(raw(name)), record.ID_FIELD)
        with self._understood():
            meta = ModelMeta.from_reply(transaction.command("AI.MODELGET", raw(name), "META"))
        return record_id, meta.fingerprint()

    def _execute(self, transaction: WatchedTransaction, name: str, happened: Callable[[], bool]) -> list[Any] | None:
        """
        Send EXEC. If its reply is lost or late, find out by `happened` whether it was carried out.

        Raise ServerUnreachable or CallTimedOut if it was not and never will be, UnknownOutcome if nobody knows.
        """
        try:
            with self.connection.translated():
                return transaction.execute()
        except (errors.ServerUnreachable, errors.CallTimedOut) as problem:
            try:
                with deadline.for_cleaning_up():
                    self._fence(name)
                    if happened():
                        self.connection.warn_of_loss(problem.__cause__ or problem, "the change was made before that")
                        return []
            except errors.RedisAIError as error:
                raise errors.UnknownOutcome(self.where, f"{problem.message.rstrip('.')}.") from error
            raise

    def _fence(self, name: str) -> None:
        """Write the record as it is, or write and delete one, so that an EXEC on its way does nothing any more."""
        record_key = record.record_key(raw(name))

        def attempt() -> bool:
            with self.connection.transaction(raw(name)) as transaction:
                transaction.command("WATCH", record_key)
                fields = commands.raw_pairs(transaction.command("HGETALL", record_key))
                items = [item for pair in fields.items() for item in pair]
                transaction.queue([["HSET", record_key, *(items or ("fence", "1"))]])
                if not fields:
                    transaction.command("DEL", record_key)
                return transaction.execute() is not None

        self._until_done(name, attempt)

    def _is_there(self, name: str, old: RecordFields) -> bool:
        """Return whether the model is still there, with the record that it had."""
        key = raw(name)
        if self.connection.call(key, "TYPE", key) != MODEL_TYPE:
            return False
        return self._record_id(name) == old.get(record.ID_FIELD.encode())

    def _settle(self, name: str, new: Record, old: RecordFields, replies: list[Any]) -> None:
        """Check every element of EXEC's reply. If one is an error, make the record match the model again, and raise."""
        failures = [reply for reply in replies if isinstance(reply, Exception)]
        if not failures:
            return
        if failures[0] is replies[0]:
            self._put_back(name, new, old)
        else:
            # The model was stored, but its record wasn't. No record is better than a wrong one.
            self._put_back(name, new, {})
        raise self.connection.problem(failures[0], errors.ModelRefused) from failures[0]

    def _put_back(self, name: str, new: Record, old: RecordFields) -> None:
        """Replace the record `new` with `old`, unless another client has already replaced it."""
        record_key = record.record_key(raw(name))
        restore: list[Command] = [["DEL", record_key]]
        if old:
            restore.append(["HSET", record_key, *(item for pair in old.items() for item in pair)])
        self._if_still(name, new, restore)

    def _forget(self, name: str, new: Record) -> None:
        """Remove the deployment `new`, unless another client has already replaced it."""
        self._if_still(name, new, [["AI.MODELDEL", raw(name)], ["DEL", record.record_key(raw(name))]])

    def _if_still(self, name: str, new: Record, then: list[Command]) -> None:
        """Run the commands `then` in a transaction, unless another deployment has the name by now."""
        for _ in range(ATTEMPTS):
            with self.connection.transaction(raw(name)) as transaction:
                transaction.command("WATCH", raw(name), record.record_key(raw(name)))
                found = transaction.command("HGET", record.record_key(raw(name)), record.ID_FIELD)
                if found not in (None, new.id.encode()):
                    return
                # Without a record the model may be anybody's, so it is not deleted.
                if found is None and ["AI.MODELDEL", raw(name)] in then:
                    return
                transaction.queue(then)
                if transaction.execute() is not None:
                    return

    # -- replies ----------------------------------------------------------------------------------

    def _record_id(self, name: str) -> bytes | None:
        found: bytes | None = self.connection.call(raw(name), "HGET", record.record_key(raw(name)), record.ID_FIELD)
        return found

    def _check_kind(self, name: str, kind: bytes) -> None:
        if kind not in (b"none", MODEL_TYPE):
            raise errors.NotAModel(name, text(kind), self.where)

    def _unreadable(self, name: str, error: Exception) -> errors.RedisAIError:
        """Return the plugin's error for an AI.MODELGET that failed."""
        if translation.is_missing(error):
            return errors.DeploymentMissing(name, self.where)
        problem = self.connection.problem(error)
        if isinstance(problem, errors.WrongKeyType):
            kind = self.connection.call(raw(name), "TYPE", raw(name))
            return errors.NotAModel(name, text(kind), self.where)
        return problem

    def _raise_first(
        self, replies: list[Any] | None, otherwise: type[errors.ServerProblem] = errors.ServerProblem
    ) -> None:
        for reply in replies or ():
            if isinstance(reply, Exception):
                raise self.connection.problem(reply, otherwise) from reply

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise UnexpectedReply for a reply that can't be interpreted."""
        try:
            yield
        except commands.BadReply as error:
            raise errors.UnexpectedReply(self.where, str(error)) from error


def _renaming(trial: bytes, key: bytes) -> list[Command]:
    """Return the commands that give a model its name, for good."""
    return [["RENAME", trial, key], ["PERSIST", key]]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _deployment(name: str, meta: ModelMeta, fields: RecordFields, version: bytes | None) -> Deployment:
    found = Record.from_fields(fields)
    belongs = found is not None and found.fingerprint == meta.fingerprint()
    return Deployment(name, meta, found if belongs else None, fields.get(record.ID_FIELD.encode()), version)
