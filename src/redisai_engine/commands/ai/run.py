"""
AI.MODELEXECUTE and the deprecated AI.MODELRUN, and what runs of models share with calls of scripts. Streams of answers:
AI.MODELSTREAM, AI.STREAMNEXT and AI.STREAMEND.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redisai_engine.backends.base import ModelStream
from redisai_engine.commands.ai.resolving import RESOLVING, resolve_model
from redisai_engine.commands.ai.tensor import tensor_of
from redisai_engine.commands.ai.tensor_reply import add_array, in_few_pieces
from redisai_engine.commands.budget import Budget, reply_budget, tensor_budget
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.calls import (
    FunctionCall,
    ModelCall,
    parse_modelexecute,
    parse_modelrun,
    parse_modelstream,
)
from redisai_engine.commands.grammar.keys import modelexecute_keys, modelrun_keys
from redisai_engine.commands.grammar.tensors import MAX_TENSOR_BYTES
from redisai_engine.commands.steps import Plan, Read, Run, RunRequest, UpstreamCommand, refuse_error
from redisai_engine.commands.table import READ, WRITE, InTransaction, Keys, command
from redisai_engine.config import Settings
from redisai_engine.errors import CommandError, EngineError
from redisai_engine.execution.job import TIMED_OUT, Job, RunnableModel
from redisai_engine.execution.streams import OpenStream
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.tensor import Buffer, Tensor
from redisai_engine.redis import store

_RUNNING = (*RESOLVING, "GET", "GETRANGE", "SET")


@command(
    "AI.MODELEXECUTE",
    arity=(8, None),
    arity_text=texts.ARITY % "AI.MODELEXECUTE",
    flags=WRITE,
    keys=Keys(4, 4, 1, find=modelexecute_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Runs a model on tensors",
    made_of=_RUNNING,
    usage="AI.MODELEXECUTE key INPUTS count key ... OUTPUTS count key ... [TIMEOUT ms]",
)
def modelexecute(client: Client, arguments: Sequence[bytes]) -> Plan:
    return (yield from _run(client, arguments[1], parse_modelexecute(arguments[2:])))


@command(
    "AI.MODELRUN",
    arity=(6, None),
    arity_text=texts.ARITY % "AI.MODELRUN",
    flags=WRITE,
    keys=Keys(3, 3, 1, find=modelrun_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Deprecated form of AI.MODELEXECUTE",
    made_of=_RUNNING,
    usage="AI.MODELRUN key [TIMEOUT ms] INPUTS key ... OUTPUTS key ...",
)
def modelrun(client: Client, arguments: Sequence[bytes]) -> Plan:
    return (yield from _run(client, arguments[1], parse_modelrun(arguments[2:])))


def _run(client: Client, key: bytes, call: ModelCall) -> Plan:
    model = yield from resolve_model(client, key)
    call.check(len(model.loaded.inputs), len(model.loaded.outputs))
    return (yield from execute(client, model, call))


def execute(client: Client, model: RunnableModel, call: ModelCall | FunctionCall) -> Plan:
    """
    Read the inputs, run the model or the script's function, and store the outputs.

    Raise CommandError for an input that is missing, WrongType for an input or output key that holds anything else than
    a tensor, and the EngineError of the run. A run that exceeds its timeout in the queue answers TIMEDOUT.
    """
    engine = client.engine
    deadline = engine.deadline(call.timeout_ms)
    inputs, commands = reading(call.inputs)
    for key in call.outputs:
        commands.append((b"GETRANGE", key, b"0", b"7"))
    got = yield Read(commands, *most_read(engine.settings))
    return (yield from run_on(client, model, call, inputs, got, deadline=deadline))


def run_on(
    client: Client,
    model: RunnableModel,
    call: ModelCall | FunctionCall,
    inputs: Sequence[int],
    got: Sequence[Any],
    *,
    deadline: float | None,
) -> Plan:
    """Go on with what Redis has: `inputs` says which of the replies each input is. The last ones are of the outputs."""
    budget = tensor_budget(client.engine.settings)
    arrays = []
    for place in inputs:
        tensor = tensor_of(got[place])
        budget.take_array_of(tensor)
        arrays.append(tensor.array())
    for head in got[len(got) - len(call.outputs) :]:
        store.check_tensor_head(head)
    (outcome,) = yield Run([RunRequest(model, arrays)], deadline)
    return (yield from keep(client, call, outcome, budget))


def keep(client: Client, call: ModelCall | FunctionCall, outcome: Any, budget: Budget | None = None) -> Plan:
    """Store the outputs of a run, or raise its error. `budget` is what the inputs have left of the command's."""
    if outcome is TIMED_OUT:
        return replies.TIMEDOUT
    if isinstance(outcome, EngineError):
        raise outcome
    budget = budget or tensor_budget(client.engine.settings)
    # An output that isn't a tensor is left out, as in RedisAI. Of two outputs to one key the last one stays.
    made = {key: array for key, array in zip(call.outputs, outcome, strict=True) if array is not None}
    for array in made.values():
        budget.take(array.nbytes)
    if not made:
        return replies.OK
    values = [(b"SET", key, stored(Tensor.from_array(array))) for key, array in made.items()]
    return (yield from kept((yield values)))


def check_and_keep(client: Client, call: ModelCall | FunctionCall, outcome: Any) -> Plan:
    """Store the outputs of a run, as `keep` does, once Redis has shown that each key holds a tensor or nothing."""
    for head in (yield [(b"GETRANGE", key, b"0", b"7") for key in call.outputs]):
        store.check_tensor_head(head)
    return (yield from keep(client, call, outcome))


def kept(answers: Sequence[Any]) -> Plan:
    """Return the reply to a run whose outputs were stored, by Redis' answers. Raise UpstreamError."""
    yield from ()
    refuse_error(*answers)
    return replies.OK


def reading(keys: Sequence[bytes]) -> tuple[list[int], list[UpstreamCommand]]:
    """Return commands that read each key once, and for each of `keys` the number of its reply."""
    if len(keys) == 1:
        return [0], [(b"GET", keys[0])]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys], [(b"GET", key) for key in numbers]


def most_read(settings: Settings) -> tuple[int, str]:
    """Return how many bytes of tensors a command may read, and the error for more."""
    return settings.tensor_limit, _too_large(settings.tensor_limit)


@lru_cache(maxsize=16)
def _too_large(most: int) -> str:
    return texts.TENSORS_TOO_LARGE % (most, most)


def stored(tensor: Tensor) -> bytes:
    """Return the string that holds a tensor in Redis. Raise CommandError if it is longer than Redis allows."""
    if len(tensor.blob) > MAX_TENSOR_BYTES:
        raise CommandError(texts.TENSOR_TOO_LARGE % (len(tensor.blob), MAX_TENSOR_BYTES))
    return store.tensor_value(tensor)


# Streams. One belongs to the connection that has begun it, which may have one at a time. Each item is a request and its
# reply, so any client can read a stream, in RESP2 too, and what nobody asks for isn't computed.


@command(
    "AI.MODELSTREAM",
    arity=(4, None),
    flags=READ,
    keys=Keys(1),
    in_transaction=InTransaction.REFUSE,
    summary="Has a Python model answer one input with a stream, and returns its first item (RedisAI has no streams)",
    made_of=RESOLVING,
    in_redisai=False,
    usage="AI.MODELSTREAM key [TIMEOUT ms] type [dim ...] [BLOB data | VALUES value ...]",
)
def modelstream(client: Client, arguments: Sequence[bytes]) -> Plan:
    key = arguments[1]
    timeout_ms, tensor = parse_modelstream(arguments[2:])
    tensor_budget(client.engine.settings).take_array_of(tensor)
    model = yield from resolve_model(client, key)
    loaded = model.loaded.new_stream(model.share.held)
    if loaded is None:
        raise CommandError(texts.NO_STREAM % model.backend_name)
    client.end_stream()
    stream = client.stream = _opened(client, key, model, loaded)
    deadline = client.engine.deadline(timeout_ms)
    return (yield from _item(client, stream, RunRequest(stream.first, [tensor.array()]), deadline))


@command(
    "AI.STREAMNEXT",
    arity=(2, 2),
    flags=READ,
    keys=Keys(1),
    in_transaction=InTransaction.REFUSE,
    summary="Returns the next item of the stream that this connection has begun, or null if there is none",
    in_redisai=False,
    usage="AI.STREAMNEXT key",
)
def streamnext(client: Client, arguments: Sequence[bytes]) -> Plan:
    stream = _stream_of(client, arguments[1])
    if stream.failure is not None:
        raise stream.failure
    if stream.is_over:
        yield from ()
        return replies.null(client.protocol)
    return (yield from _item(client, stream, RunRequest(stream.following, [])))


@command(
    "AI.STREAMEND",
    arity=(2, 2),
    flags=READ,
    keys=Keys(1),
    in_transaction=InTransaction.REFUSE,
    summary="Ends the stream that this connection has begun, and returns when the model's generator is closed",
    in_redisai=False,
    usage="AI.STREAMEND key",
)
def streamend(client: Client, arguments: Sequence[bytes]) -> Plan:
    stream = _stream_of(client, arguments[1])
    client.end_stream()
    yield Run([RunRequest(stream.following, [])])  # behind the run that ends it
    return replies.OK


def _opened(client: Client, key: bytes, model: RunnableModel, loaded: ModelStream) -> OpenStream:
    engine = client.engine

    def submit(job: Job) -> None:
        engine.executor.submit(job)
        engine.turn.plan()  # submitted jobs run in a turn

    patience_ms = engine.settings.stream_timeout
    return OpenStream(key, model, loaded, loop=engine.loop, submit=submit, patience_ms=patience_ms)


def _stream_of(client: Client, key: bytes) -> OpenStream:
    stream = client.stream
    if isinstance(stream, OpenStream) and stream.key == key:
        return stream
    raise CommandError(texts.STREAM_MISSING)


def _item(client: Client, stream: OpenStream, request: RunRequest, deadline: float | None = None) -> Plan:
    """Run a stream up to its next item, and encode it: each output as AI.TENSORGET META BLOB does."""
    stream.begin_run()
    (outcome,) = yield Run([request], deadline)
    if outcome is TIMED_OUT:
        client.end_stream()
        return replies.TIMEDOUT
    if isinstance(outcome, EngineError):
        stream.fail(outcome)
        raise outcome
    stream.end_run()
    if not outcome:
        return replies.null(client.protocol)
    pieces: list[Buffer] = [b"*%d\r\n" % len(outcome)]
    budget = reply_budget(client.engine.settings)
    for array in outcome:
        budget.take(array.nbytes)
        add_array(pieces, array)
    return in_few_pieces(pieces)
