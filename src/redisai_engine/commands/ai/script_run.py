"""
AI.SCRIPTEXECUTE and the deprecated AI.SCRIPTRUN, and what calls of scripts share with DAGs.

A call is run as a model is: it waits in the same queue and has the same outcomes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.backends.scripts import Script, ScriptCall
from redisai_engine.commands.ai.run import execute
from redisai_engine.commands.ai.script import compiled, read_script
from redisai_engine.commands.ai.script_calls import ClientCaller
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.calls import FunctionCall, parse_scriptexecute, parse_scriptrun
from redisai_engine.commands.grammar.keys import scriptexecute_keys, scriptrun_keys
from redisai_engine.commands.grammar.words import text
from redisai_engine.commands.steps import Plan
from redisai_engine.commands.table import WRITE, InTransaction, Keys, command
from redisai_engine.execution.job import RunnableModel, queue_device
from redisai_engine.protocol import texts

_CALLING = ("EXISTS", "HMGET", "GET", "GETRANGE", "SET")  # plus the commands that the script itself sends


@command(
    "AI.SCRIPTEXECUTE",
    arity=(3, None),
    arity_text=texts.ARITY % "AI.SCRIPTEXECUTE",
    flags=WRITE,
    keys=Keys(5, 5, 1, find=scriptexecute_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Calls a script's function",
    made_of=_CALLING,
)
def scriptexecute(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTEXECUTE key function [KEYS count key ...] [INPUTS count key ...] [ARGS count argument ...]
    [OUTPUTS count key ...] [TIMEOUT ms]"""
    call = parse_scriptexecute(arguments[3:], in_dag=False)
    return (yield from _call(client, arguments[1], arguments[2], call))


@command(
    "AI.SCRIPTRUN",
    arity=(3, None),
    arity_text=texts.ARITY % "AI.SCRIPTRUN",
    flags=WRITE,
    keys=Keys(4, 4, 1, find=scriptrun_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Deprecated form of AI.SCRIPTEXECUTE",
    made_of=_CALLING,
)
def scriptrun(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTRUN key function [TIMEOUT ms] INPUTS key ... [$ key ...] OUTPUTS key ..."""
    return (yield from _call(client, arguments[1], arguments[2], parse_scriptrun(arguments[3:])))


def _call(client: Client, key: bytes, function: bytes, call: FunctionCall) -> Plan:
    script = yield from resolve_script(client, key)
    call.check()
    return (yield from execute(client, script.runnable(client, function, call), call))


@dataclass(frozen=True, slots=True)
class ResolvedScript:
    """A compiled script, as the key holds it now."""

    key: bytes
    id: bytes
    device: str
    script: Script

    def runnable(self, client: Client, function: bytes, call: FunctionCall) -> RunnableModel:
        """Return an object that runs one call, with the client's rights."""
        loaded = ScriptCall(
            self.script, text(function), call.keys, call.arguments, len(call.outputs), ClientCaller(client)
        )
        scripts, which = client.engine.scripts, (client.database, self.key, self.id)
        return RunnableModel(
            loaded,
            backend_name="TORCH",
            device=self.device,
            statistics=scripts.statistics(*which),
            figures=client.engine.ledger.of((client.database, self.key), self.id, "TORCH", queue_device(self.device)),
            share=scripts.share(*which),
        )


def resolve_script(client: Client, key: bytes) -> Generator[Any, Any, ResolvedScript]:
    """
    Find the script that the key holds now, and compile it if this process hasn't yet.

    Raise CommandError if there is no key, WrongType if it holds no script, UpstreamError without the right to read it.
    """
    meta, _ = yield from read_script(client, key, with_source=False)
    scripts, database = client.engine.scripts, client.database
    script = scripts.compiled(database, key, meta.id.encode())
    if script is None:
        meta, raw = yield from read_script(client, key, with_source=True)
        source = text(raw)
        script = yield from compiled(client, meta, source)
        scripts.keep(database, key, meta.id.encode(), script, len(source))
    return ResolvedScript(key, meta.id.encode(), meta.device, script)
