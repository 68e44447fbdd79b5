"""
The backend PYFUNC: Python models, in the form that the rest of the engine knows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from redisai_engine.backends.base import Array, Backend, BackendSettings, LoadedModel, Outputs
from redisai_engine.errors import ModelLoadError, ModelRunError
from redisai_engine.execution.hosts.models import HostedModel, HostLimits
from redisai_engine.execution.hosts.python.archive import Wanted, wanted_by
from redisai_engine.execution.hosts.python.starting import Interpreter, Starting, own_interpreter
from redisai_engine.execution.hosts.python.workers import PythonWorkers

#: Returns the Python of an environment, given what redisai.json says of it and the files that decide about it.
FindPython: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, bytes]], str]

_LEAST_BYTES, _MOST_BYTES = 32 * 2**20, 2**40  # of a worker, whatever it says


@dataclass(frozen=True, slots=True)
class PythonSettings:
    """What Python models get: the limits of each worker, and how long it may have nothing to do (0: any time)."""

    limits: HostLimits
    idle_seconds: float = 0.0


class PythonBackend(Backend):
    """The backend of Python models. `find_python` makes environments; None if this engine can't."""

    name = "PYFUNC"
    version = ""

    def __init__(self, starting: Starting, settings: PythonSettings, find_python: FindPython | None = None) -> None:
        self._starting = starting
        self._settings = settings
        self._find_python = find_python

    def close(self) -> None:
        """End all workers."""
        self._starting.close()

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        wanted = wanted_by(blob)
        names = tuple(inputs) or ("input",), tuple(outputs) or ("output",)
        about = {"backend": self.name, "device": device, "inputs": names[0], "outputs": names[1]}
        workers = PythonWorkers(
            self._starting,
            self._interpreter(wanted),
            replace(self._settings.limits, at_once=wanted.replicas),
            about,
            blob,
            idle_seconds=self._settings.idle_seconds,
        )
        model = PythonModel(workers, *names, replicas=wanted.replicas)
        model.load()
        return model

    def _interpreter(self, wanted: Wanted) -> Interpreter:
        environment = wanted.environment
        if environment["kind"] == "local":
            return own_interpreter(self._starting)
        if environment["kind"] == "path":
            path = environment.get("path")
            if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
                raise ModelLoadError(
                    f"ERR the environment's path must be an absolute one of a Python, not {path!r:.80}"
                )
            return Interpreter(self._starting, path, None)
        if self._find_python is None:
            raise ModelLoadError(
                f"ERR this engine makes no environments; store the model for its own Python, {sys.executable}, or for "
                "the path of one"
            )
        return Interpreter(self._starting, self._find_python(environment, wanted.files), None)


class PythonModel(HostedModel):
    """A Python model with its workers."""

    takes_parcels = True

    def __init__(
        self, workers: PythonWorkers, inputs: tuple[str, ...], outputs: tuple[str, ...], *, replicas: int
    ) -> None:
        super().__init__(workers)
        self.inputs, self.outputs = inputs, outputs
        self.at_once = replicas
        self._memory = 0

    def load(self) -> None:
        """Start the first worker. Raise ModelLoadError if it can't load the model."""
        said = self._hosts.load().get("memory")
        memory = said if isinstance(said, int) else 0
        self._memory = min(max(memory, _LEAST_BYTES), _MOST_BYTES) * self.at_once

    @property
    def memory(self) -> int:  # type: ignore[override]
        """What all workers take, by what the first one took when it had loaded the model."""
        return self._memory

    def give_back(self) -> None:
        """End no workers: there are as many as were asked for."""

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        outputs = super().run(arrays, stop)
        if len(outputs) != len(self.outputs) or any(array is None for array in outputs):
            raise ModelRunError(f"ERR the worker answered {len(outputs)} tensors instead of {len(self.outputs)}")
        return outputs
