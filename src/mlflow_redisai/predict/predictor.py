"""
Predictions: from an input to tensors, one command for each chunk of rows, and from their replies to the answer.

Theory of operation. What a prediction needs to know about a deployment is read once and cached: the record, or
RedisAI's metadata for a model without one. Every command is sent in one write between two questions about the
deployment's identity. A server that reports a model's version (AI._MODELID) is asked for that. Otherwise the questions
read the record's id, and the model's META is read after the command. If the replies don't identify the cached
deployment, the answer is discarded, the deployment is read again, and the whole prediction is repeated, including the
encoding of the input.

Invariant: no answer is ever decoded with the record of another deployment. An update by any client costs a repetition,
never a wrong answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from mlflow_redisai import deadline, errors
from mlflow_redisai.config import DEFAULT_TIMEOUT_MS
from mlflow_redisai.predict import foreign, streaming
from mlflow_redisai.predict.chunks import CHUNK_BYTES, Chunks, Pace, is_one_chunk
from mlflow_redisai.server import commands, translation
from mlflow_redisai.server.commands import Command, ModelMeta, raw
from mlflow_redisai.server.connection import Connection
from mlflow_redisai.server.deployments import Deployment, Deployments
from mlflow_redisai.server.replies import tensors_of
from redisai_engine.codec.answers import decode
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import join, row_count
from redisai_engine.codec.record import ID_FIELD, record_key
from redisai_engine.protocol.tensor import Tensor

ATTEMPTS = 50  # updates by other clients during a prediction before giving up
UNSPLIT_BYTES = 64 * 1024 * 1024  # the same for a model whose rows can't be sent apart
_CURE = "allow more with mlflow deployments update ... -C timeout=... (milliseconds)"


class _Outdated(Exception):
    """The reply came from another deployment than the one whose mapping was used."""


class KnownDeployment:
    """
    A deployment and what is derived from it: built once, and used for all predictions until the deployment changes.
    """

    def __init__(self, deployment: Deployment, store: Deployments) -> None:
        found = deployment.record
        self.name = deployment.name
        self.key = raw(deployment.name)
        self.record_key = record_key(self.key)
        self.identity = deployment.identity
        self.version = deployment.version
        self.seen_meta: Any = None  # the META reply that was last recognized as this deployment's
        self.timeout_ms = found.options.timeout if found else DEFAULT_TIMEOUT_MS
        self.limit_s = self.timeout_ms / 1000
        self.wait_ms = max(1, self.timeout_ms * 9 // 10)  # so that the server can say in time that it was too long
        self.pace = Pace()
        self.what = f"the prediction with {self.name!r}"
        with errors.of_codec():
            if found is not None:
                self.mapping = found.mapping
            else:
                self.mapping = foreign.mapping_of(self.name, deployment.meta, lambda: store.blob(self.name))
            self.encoder = Encoder(self.mapping)


class Predictor:
    """Predicts with the deployments of one server. Many threads may use it."""

    def __init__(self, store: Deployments) -> None:
        self._store = store
        self._known: dict[str, KnownDeployment] = {}
        self._lock = threading.Lock()

    def predict(
        self, name: str, inputs: Any, source: Document | None = None, params: dict[str, Any] | None = None
    ) -> Any:
        """
        Return what pyfunc would return. `source` is the JSON document from which a frame was read, if there is one.

        Raise DeploymentMissing, InvalidInput, PredictionTimedOut, CallTimedOut, ModelFailed, or the error for another
        cause.
        """
        known = self._known.get(name) or self._read(name)
        for _ in range(ATTEMPTS):
            try:
                with deadline.Limit(known.what, known.limit_s, _CURE), errors.of_codec():
                    return self._predict(known, inputs, source, params)
            except _Outdated:
                known = self._read(name)
            except errors.InvalidInput:
                # The model may have been replaced, and the input may fit the new one.
                fresh = self._read(name)
                if fresh.identity == known.identity:
                    raise
                known = fresh
        raise errors.ConcurrentChange(name, ATTEMPTS)

    def stream(self, name: str, inputs: Any, params: dict[str, Any] | None = None) -> Iterator[Any]:
        """Yield what pyfunc's predict_stream would. Raise the errors of `predict`, or InvalidRequest."""
        known = self._known.get(name) or self._read(name)
        for _ in range(ATTEMPTS):
            if not known.mapping.parcel:
                raise errors.InvalidRequest(
                    f"the deployment {name!r} gives whole answers only; a model that has predict_stream can stream "
                    "where it is deployed with -C backend=PYFUNC"
                )
            with errors.of_codec():
                tensors = known.encoder.encode(inputs, None, params)
            try:
                yield from streaming.items(self._store.connection, known, tensors, _CURE)
                return
            except streaming.Outdated:
                known = self._read(name)
        raise errors.ConcurrentChange(name, ATTEMPTS)

    def knows(self, name: str) -> bool:
        """Return whether a prediction need not read the deployment first."""
        return name in self._known

    def forget(self, name: str) -> None:
        """Drop what is cached about a deployment."""
        with self._lock:
            self._known.pop(name, None)

    def _read(self, name: str) -> KnownDeployment:
        self.forget(name)
        known = KnownDeployment(self._store.read(name), self._store)
        with self._lock:
            self._known[name] = known
        return known

    def _predict(
        self, known: KnownDeployment, inputs: Any, source: Document | None, params: dict[str, Any] | None
    ) -> Any:
        mapping = known.mapping
        tensors = known.encoder.encode(inputs, source, params)
        if mapping.parcel:
            return decode(_run(self._store.connection, known, tensors), mapping, inputs)
        rows = row_count(tensors, mapping)
        if is_one_chunk(tensors, mapping, rows):
            return decode(join([_run(self._store.connection, known, tensors)], rows), mapping, inputs)
        chunks = Chunks(tensors, mapping, _rows_at_once(tensors, rows, mapping), known.pace)
        answers = chunks.run(partial(_run, self._store.connection, known))
        return decode(join(answers, rows), mapping, inputs)


def _rows_at_once(tensors: Sequence[Tensor], rows: int, mapping: Mapping) -> int | None:
    """
    Return how many rows one command may carry, or None for all: the outputs don't have one row for each input row.
    """
    outputs = [mapping.outputs[index].shape for index in mapping.fetch]
    if mapping.independent and not all(shape and shape[0] is None for shape in outputs):
        return None
    limit = CHUNK_BYTES if mapping.independent else UNSPLIT_BYTES
    return max(1, limit * rows // max(1, sum(len(tensor.blob) for tensor in tensors)))


def _run(connection: Connection, known: KnownDeployment, tensors: list[Tensor]) -> list[Tensor]:
    """Send one chunk and return the fetched tensors. Raise _Outdated if another deployment than `known` answered."""
    mapping = known.mapping
    wait_ms = known.wait_ms if connection.target.timeout is None else deadline.wait_ms(known.wait_ms)
    dag = commands.dag(known.key, tensors, len(mapping.outputs), mapping.fetch, wait_ms)
    reply = _versioned(connection, known, dag) if known.version else _recorded(connection, known, dag)
    return tensors_of(connection, reply, len(mapping.fetch), known.timeout_ms)


def _versioned(connection: Connection, known: KnownDeployment, dag: Command) -> Any:
    """Ask for the model's version before and after the command. The engine knows it without a round trip to Redis."""
    read: Command = ["AI._MODELID", known.key]
    before, reply, after = connection.exchange(known.key, [read, dag, read])
    _refuse_problems(connection, before, after)
    if not before == after == known.version:
        raise _Outdated
    return reply


def _recorded(connection: Connection, known: KnownDeployment, dag: Command) -> Any:
    """Read the record's id before and after the command, and the model's META after it."""
    read: Command = ["HGET", known.record_key, ID_FIELD]
    before, reply, meta, after = connection.exchange(known.key, [read, dag, ["AI.MODELGET", known.key, "META"], read])
    _refuse_problems(connection, before, after, meta)
    if before != after or isinstance(meta, Exception) or not _is_known(connection, known, after, meta):
        raise _Outdated
    return reply


def _refuse_problems(connection: Connection, *answers: Any) -> None:
    """Raise the first error among the answers, except that the model is missing."""
    for answer in answers:
        if isinstance(answer, Exception) and not translation.is_missing(answer):
            raise connection.problem(answer) from answer


def _is_known(connection: Connection, known: KnownDeployment, id_: Any, meta: Any) -> bool:
    """Return whether the record's id and the model's META identify the known deployment."""
    if meta == known.seen_meta:  # nearly always the case, and faster than a digest
        return bool(id_ == known.identity[0])
    try:
        fingerprint = ModelMeta.from_reply(meta).fingerprint()
    except commands.BadReply as error:
        raise errors.UnexpectedReply(connection.where, str(error)) from error
    if (id_, fingerprint) != known.identity:
        return False
    known.seen_meta = meta
    return True
