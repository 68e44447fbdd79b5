"""
Scripts in a host: what they ask of Redis, they ask the engine, on the channel that the call came on.

Meanwhile the engine does nothing else on that channel, so the next frame is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs
from redisai_engine.backends.scripts import ScriptCall
from redisai_engine.execution.hosts.answers import from_bytes, to_bytes, to_error, to_value
from redisai_engine.execution.hosts.frames import Channel
from redisai_engine.protocol.frames import Value


def script_in_host(channel: Channel, given: dict[str, Any], source: bytes) -> Callable[[Any, Sequence[Any]], Outputs]:
    """Compile a script and return a function that carries out a call, as a message and arrays. Raise ModelLoadError."""
    from redisai_engine.backends.torch_script import compile_script

    text = source.decode("utf-8", "surrogateescape")
    script = compile_script(text, given["entry_points"], given["device"], BackendSettings(*given["threads"]))
    caller = ChannelCaller(channel)

    def run(message: Any, arrays: Sequence[Any]) -> Outputs:
        keys, arguments = ([to_bytes(word) for word in message[name]] for name in ("keys", "arguments"))
        return script.run(ScriptCall(script, message["function"], keys, arguments, message["outputs"], caller), arrays)

    return run


class ChannelCaller:
    """Passes a script's requests on to the engine."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def command(self, arguments: Sequence[bytes]) -> Value:
        return to_value(self.ask({"command": [from_bytes(word) for word in arguments]})[0]["value"])

    def model(self, key: bytes) -> LoadedModel:
        return AskedModel(self, from_bytes(key))

    def ask(self, question: dict[str, Any], arrays: Sequence[Array] = ()) -> tuple[Any, Outputs]:
        self._channel.send({"asks": question}, arrays)
        answer, outputs = self._channel.receive()
        if "error" in answer:
            raise to_error(*answer["error"])
        return answer, outputs


class AskedModel(LoadedModel):
    """A model that the engine runs for a script."""

    def __init__(self, caller: ChannelCaller, key: str) -> None:
        self._caller = caller
        self._key = key
        about, _ = caller.ask({"model": key})
        self.inputs, self.outputs = tuple(about["inputs"]), tuple(about["outputs"])

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        return self._caller.ask({"run": self._key}, arrays)[1]
