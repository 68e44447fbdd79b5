"""
What a script is to the engine, wherever it runs.

A call runs the way a model runs: it waits in the device's queue, can time out there and is counted in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redisai_engine.backends.base import Array, LoadedModel, Outputs, Stop
from redisai_engine.protocol.frames import Value


class Caller(Protocol):
    """What a script may ask for while it runs. Methods are called in the script's thread and may raise anything."""

    def command(self, arguments: Sequence[bytes]) -> Value:
        """Have Redis execute a command on behalf of the client that called the script. Return the decoded reply."""

    def model(self, key: bytes) -> LoadedModel:
        """Return the model that the client would run under that key."""


class Script(Protocol):
    """A compiled script."""

    @property
    def memory(self) -> int:
        """What it takes, in bytes, where it knows that itself; otherwise 0."""

    def give_back(self) -> None:
        """Free memory that only calls at the same time need."""

    def run(self, call: ScriptCall, arrays: Sequence[Array], stop: Any) -> Outputs:
        """Carry out a call. Raise ModelRunError."""

    def new_stop(self) -> Stop | None:
        """Return a switch for one call, or None if it can't be stopped."""


@dataclass(eq=False)
class ScriptCall(LoadedModel):
    """One call of a script's function, in the form of a model, so that the executor can run it."""

    script: Script
    function: str
    keys: Sequence[bytes]
    arguments: Sequence[bytes]
    output_count: int
    caller: Caller

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        return self.script.run(self, arrays, stop)

    def new_stop(self) -> Stop | None:
        return self.script.new_stop()
