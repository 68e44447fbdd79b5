"""
AI.MODELEXECUTE and the deprecated AI.MODELRUN, and what runs of models share with calls of scripts.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.ai.resolving import RESOLVING, resolve_model
from redisai_engine.commands.ai.tensor import tensor_of
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.calls import FunctionCall, ModelCall, parse_modelexecute, parse_modelrun
from redisai_engine.commands.grammar.keys import modelexecute_keys, modelrun_keys
from redisai_engine.commands.steps import Plan, Run, RunRequest, refuse_error
from redisai_engine.commands.table import WRITE, InTransaction, Keys, command
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT, RunnableModel
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.tensor import Tensor
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
)
def modelexecute(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELEXECUTE key INPUTS count key ... OUTPUTS count key ... [TIMEOUT ms]"""
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
)
def modelrun(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELRUN key [TIMEOUT ms] INPUTS key ... OUTPUTS key ..."""
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
    deadline = client.engine.deadline(call.timeout_ms)
    outputs = call.outputs
    got = yield [
        *((b"GET", key) for key in call.inputs),
        *((b"GETRANGE", key, b"0", b"7") for key in outputs),
    ]
    arrays = [tensor_of(value).array() for value in got[: len(call.inputs)]]
    for head in got[len(call.inputs) :]:
        store.check_tensor_head(head)
    (outcome,) = yield Run([RunRequest(model, arrays)], deadline)
    if outcome is TIMED_OUT:
        return replies.TIMEDOUT
    if isinstance(outcome, EngineError):
        raise outcome
    # An output that isn't a tensor is left out, as in RedisAI. Of two outputs to one key the last one stays.
    tensors = {key: Tensor.from_array(array) for key, array in zip(outputs, outcome, strict=True) if array is not None}
    if tensors:
        refuse_error(*(yield [(b"SET", key, store.tensor_value(tensor)) for key, tensor in tensors.items()]))
    return replies.OK
