"""
Scripts that run in hosts, in the form that the rest of the engine knows.

What a script asks of Redis, its host asks in the middle of the call. The thread that waits for the call's answer has it
done with the rights of the client that called the script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs, Stop
from redisai_engine.backends.scripts import Caller, ScriptCall
from redisai_engine.backends.torch_script_source import check_source
from redisai_engine.execution.hosts.frames import from_bytes, from_error, from_value, to_bytes
from redisai_engine.execution.hosts.models import HostLimits, Hosts, StopHost
from redisai_engine.execution.hosts.parent import Parent


class HostedScript:
    """A script in hosts, each of which has compiled it."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def new_stop(self) -> Stop | None:
        return StopHost()

    @property
    def memory(self) -> int:
        return self._hosts.weigh()

    def give_back(self) -> None:
        self._hosts.give_back()

    def run(self, call: ScriptCall, arrays: Sequence[Array], stop: Any) -> Outputs:
        """Carry out a call. Raise ModelRunError."""
        message = {
            "function": call.function,
            "keys": [from_bytes(key) for key in call.keys],
            "arguments": [from_bytes(argument) for argument in call.arguments],
            "outputs": call.output_count,
        }
        stop = stop or StopHost()
        return self._hosts.run(message, arrays, stop, Replies(call.caller, stop).reply)


def compile_in_host(
    parent: Parent,
    host_limits: HostLimits,
    source: str,
    *,
    entry_points: Sequence[str],
    device: str,
    settings: BackendSettings,
) -> HostedScript:
    """Compile a script in a host of its own. Raise ModelLoadError."""
    # Before a process is started for it, which may have to import PyTorch first.
    check_source(source)
    about = {
        "entry_points": list(entry_points),
        "device": device,
        "threads": [settings.intra_op_threads, settings.inter_op_threads],
    }
    hosts = Hosts(parent, host_limits, about, source.encode("utf-8", "surrogateescape"))
    hosts.load()
    return HostedScript(hosts)


class Replies:
    """The answers to what one call asks. `stop` also stops the models that it has run."""

    def __init__(self, caller: Caller, stop: StopHost) -> None:
        self._caller = caller
        self._stop = stop
        self._models: dict[str, LoadedModel] = {}

    def reply(self, question: dict[str, Any], arrays: Outputs) -> tuple[Any, Outputs]:
        """Answer a question of the host. An error is an answer, too."""
        try:
            return self._answer(question, arrays)
        except Exception as error:
            return from_error(error), []

    def _answer(self, question: dict[str, Any], arrays: Outputs) -> tuple[Any, Outputs]:
        if "command" in question:
            words = [to_bytes(word) for word in question["command"]]
            return {"value": from_value(self._caller.command(words))}, []
        if "model" in question:
            model = self._models[question["model"]] = self._caller.model(to_bytes(question["model"]))
            return {"inputs": model.inputs, "outputs": model.outputs}, []
        model = self._models[question["run"]]
        with self._stop.stopping(model.new_stop()) as inner:
            return {}, model.run(cast("list[Array]", arrays), inner)
