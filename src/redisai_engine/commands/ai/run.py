"""
AI.MODELEXECUTE and the deprecated AI.MODELRUN, and what running shares with DAGs.

Invariant: a run uses the version of the model that the store held when the command came, as this client may see it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.commands.ai.model import meta_of
from redisai_engine.commands.ai.model_options import Words, text
from redisai_engine.commands.ai.tensor import tensor_of
from redisai_engine.commands.getkeys import modelexecute_keys, modelrun_keys
from redisai_engine.commands.hashes import READ_RIGHT, hash_of, values_of
from redisai_engine.commands.numbers import integer
from redisai_engine.commands.table import (
    WRITE,
    Context,
    InTransaction,
    Keys,
    Load,
    Plan,
    Run,
    RunRequest,
    command,
    refuse_error,
)
from redisai_engine.errors import CommandError, EngineError
from redisai_engine.execution.job import TIMED_OUT, RunnableModel
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.tensor import Tensor
from redisai_engine.redis import store

RESOLVING = ("EXISTS", "HMGET", "HGETALL")  # what it takes to find a model
_RUNNING = (*RESOLVING, "GET", "GETRANGE", "SET")


@dataclass(slots=True)
class Execution:
    """What to run a model on, and where its outputs go."""

    inputs: list[bytes]
    outputs: list[bytes]
    timeout_ms: int | None = None


@command(
    "AI.MODELEXECUTE",
    arity=(8, None),
    arity_text=texts.ARITY % "AI.MODELEXECUTE",
    flags=WRITE,
    keys=Keys(4, 4, 1, find=modelexecute_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Runs a model on tensors",
    made_of=_RUNNING,
)
def modelexecute(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELEXECUTE key INPUTS count key ... OUTPUTS count key ... [TIMEOUT ms]"""
    model = yield from resolve_model(context, arguments[1])
    return (yield from execute(context, model, parse_modelexecute(arguments[2:], model)))


@command(
    "AI.MODELRUN",
    arity=(6, None),
    arity_text=texts.ARITY % "AI.MODELRUN",
    flags=WRITE,
    keys=Keys(3, 3, 1, find=modelrun_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Deprecated form of AI.MODELEXECUTE",
    made_of=_RUNNING,
)
def modelrun(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELRUN key [TIMEOUT ms] INPUTS key ... OUTPUTS key ..."""
    model = yield from resolve_model(context, arguments[1])
    return (yield from execute(context, model, parse_modelrun(arguments[2:], model)))


def execute(context: Context, model: RunnableModel, execution: Execution) -> Plan:
    """Reads the inputs, runs the model or the script's call, and stores the outputs."""
    deadline = context.engine.deadline(execution.timeout_ms)
    outputs = execution.outputs
    got = yield [
        *((b"GET", key) for key in execution.inputs),
        *((b"GETRANGE", key, b"0", b"7") for key in outputs),
    ]
    arrays = [tensor_of(value).array() for value in got[: len(execution.inputs)]]
    for head in got[len(execution.inputs) :]:
        store.check_tensor_head(head)
    (outcome,) = yield Run([RunRequest(model, arrays)], deadline)
    if outcome is TIMED_OUT:
        return replies.TIMEDOUT
    if isinstance(outcome, EngineError):
        raise outcome
    # An output that isn't a tensor is left out, as RedisAI does; of two outputs to one key the last one stays.
    tensors = {key: Tensor.from_array(array) for key, array in zip(outputs, outcome, strict=True) if array is not None}
    if tensors:
        refuse_error(*(yield [(b"SET", key, store.tensor_value(tensor)) for key, tensor in tensors.items()]))
    return replies.OK


def resolve_model(context: Context, key: bytes) -> Generator[Any, Any, RunnableModel]:
    """
    Finds the model that the key holds now, loading it where this process hasn't yet.

    Raises CommandError where there is none, WrongType for another kind of key, UpstreamError without the right to read.
    """
    models = context.engine.models
    model = models.current(context.database, key) if context.may_trust else None
    if model is not None and context.rights.has(key, READ_RIGHT):
        return model
    exists, values = yield [(b"EXISTS", key), (b"HMGET", key, store.MARKER, store.ID, store.META)]
    marker, id_, meta = values_of(values)
    meta_of(exists, {store.MARKER: marker, store.META: meta})
    context.rights.grant(key, READ_RIGHT)
    model = models.by_id(id_)
    if model is None:
        id_, model = yield from _load(key)
    models.holds(context.database, key, id_)
    models.follow(context.database, key, id_, model)
    return model


def _load(key: bytes) -> Generator[Any, Any, tuple[bytes, RunnableModel]]:
    exists, values = yield [(b"EXISTS", key), (b"HGETALL", key)]
    fields = hash_of(values)
    meta = meta_of(exists, fields)
    return meta.id.encode(), (yield Load(meta, b"".join(fields[name] for name in meta.blob_fields)))


def parse_modelexecute(arguments: Sequence[bytes], model: RunnableModel) -> Execution:
    """Reads `INPUTS count key ... OUTPUTS count key ... [TIMEOUT ms]`; the counts have to be the model's."""
    words = Words(list(arguments))
    if not words.take_if(b"INPUTS"):
        raise CommandError(texts.INPUTS_MISSING)
    count = _count(words, texts.BAD_INPUT_COUNT, texts.INPUT_COUNT_ZERO)
    if count != len(model.loaded.inputs):
        raise CommandError(texts.INPUTS_MISMATCH)
    execution = Execution(words.take_many(count), [])
    if not words.take_if(b"OUTPUTS"):
        raise CommandError(texts.OUTPUTS_MISSING)
    count = _count(words, texts.BAD_OUTPUT_COUNT, texts.OUTPUT_COUNT_ZERO)
    if count != len(model.loaded.outputs):
        raise CommandError(texts.OUTPUTS_MISMATCH)
    execution.outputs = words.take_many(count)
    if len(execution.outputs) < count:
        raise CommandError(texts.OUTPUTS_MISMATCH)
    if words.take_if(b"TIMEOUT"):
        execution.timeout_ms = parse_timeout(words)
    if words.rest:
        raise CommandError(texts.UNEXPECTED % text(words.rest[0]))
    return execution


def _count(words: Words, bad: str, zero: str) -> int:
    count = integer(words.take() or b"")
    if count is None:
        raise CommandError(bad)
    if count <= 0:
        raise CommandError(zero)
    return count


def parse_timeout(words: Words) -> int:
    """Reads the value behind TIMEOUT, in milliseconds."""
    word = words.take()
    if word is None:
        raise CommandError(texts.TIMEOUT_MISSING)
    timeout_ms = integer(word)
    if timeout_ms is None or timeout_ms <= 0:
        raise CommandError(texts.BAD_TIMEOUT)
    return timeout_ms


def parse_modelrun(arguments: Sequence[bytes], model: RunnableModel) -> Execution:
    """Reads the deprecated `[TIMEOUT ms] INPUTS key ... OUTPUTS key ...`."""
    words = Words(list(arguments))
    timeout_ms = parse_timeout(words) if words.take_if(b"TIMEOUT") else None
    if not words.take_if(b"INPUTS"):
        raise CommandError(texts.INPUTS_MISSING)
    inputs: list[bytes] = []
    while words.rest and not words.take_if(b"OUTPUTS"):
        inputs.append(words.take() or b"")
    if len(inputs) != len(model.loaded.inputs):
        raise CommandError(texts.INPUTS_MISMATCH)
    if len(words.rest) != len(model.loaded.outputs):
        raise CommandError(texts.OUTPUTS_MISMATCH)
    return Execution(inputs, words.rest, timeout_ms)
