"""
The backend PYFUNC: Python models, in the form that the rest of the engine knows.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from redisai_engine.backends.base import Array, Backend, BackendSettings, Errand, LoadedModel, ModelStream, Outputs
from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.models import HostedModel, HostLimits
from redisai_engine.execution.hosts.parent import search_path
from redisai_engine.execution.hosts.python.archive import Wanted, wanted_by
from redisai_engine.execution.hosts.python.errand import PythonErrand, check_answer, is_short
from redisai_engine.execution.hosts.python.starting import Interpreter, Starting
from redisai_engine.execution.hosts.python.streams import PythonStream
from redisai_engine.execution.hosts.python.workers import PythonWorkers

_log = logging.getLogger(__name__)

_LEAST_BYTES = 32 * 2**20  # of a worker, where that can't be measured


class Pythons(Protocol):
    """What has the Pythons of environments, and builds those that are missing."""

    def interpreter(
        self, wanted: Mapping[str, Any], files: Mapping[str, bytes], told: Callable[[str], None], seconds: float
    ) -> str:
        """Return the Python that redisai.json and some files ask for, kept until `release`. Raise ModelLoadError."""

    def requirement(
        self, wanted: Mapping[str, Any], files: Mapping[str, bytes], told: Callable[[str], None], seconds: float
    ) -> Callable[[], None]:
        """Return what raises ModelLoadError as long as `interpreter` would have to build something, which begins."""

    def release(self, interpreter: str) -> None:
        """Note that a model less uses it."""

    def close(self) -> None:
        """End what is being built."""


@dataclass(frozen=True, slots=True)
class PythonSettings:
    """
    What Python models get: the limits of each worker, and how long it may have nothing to do (0: any time).

    `build_seconds` is how long an environment may take to be built.
    """

    limits: HostLimits
    idle_seconds: float
    build_seconds: float


class PythonBackend(Backend):
    """The backend of Python models, which run with one of `pythons`."""

    name = "PYFUNC"
    version = ""

    def __init__(self, starting: Starting, settings: PythonSettings, pythons: Pythons) -> None:
        self._starting = starting
        self._settings = settings
        self._pythons = pythons

    def close(self) -> None:
        """End all workers, and what is being built."""
        self._pythons.close()
        self._starting.close()

    def require(self, blob: bytes) -> None:
        wanted = wanted_by(blob)
        require = self._pythons.requirement(wanted.environment, wanted.files, _log.info, self._settings.build_seconds)
        try:
            require()
        except ModelLoadError as error:
            error.again = require
            raise

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        wanted = wanted_by(blob)
        names = tuple(inputs) or ("input",), tuple(outputs) or ("output",)
        python = self._pythons.interpreter(wanted.environment, wanted.files, _log.info, self._settings.build_seconds)
        try:
            about = {"backend": self.name, "device": device, "inputs": names[0], "outputs": names[1]}
            model = PythonModel(self._workers(wanted, python, about, blob), *names, replicas=wanted.replicas)
            model.load()
        except BaseException:
            self._pythons.release(python)
            raise
        weakref.finalize(model, self._pythons.release, python)
        return model

    def _workers(self, wanted: Wanted, python: str, about: dict[str, Any], blob: bytes) -> PythonWorkers:
        path = search_path() if wanted.environment["kind"] == "local" else None
        return PythonWorkers(
            self._starting,
            Interpreter(self._starting, python, path, idle_seconds=self._settings.idle_seconds),
            replace(self._settings.limits, at_once=wanted.replicas),
            about,
            blob,
            idle_seconds=self._settings.idle_seconds,
        )


class PythonModel(HostedModel):
    """A Python model with its workers."""

    takes_parcels = True

    def __init__(
        self, workers: PythonWorkers, inputs: tuple[str, ...], outputs: tuple[str, ...], *, replicas: int
    ) -> None:
        super().__init__(workers)
        self._hosts: PythonWorkers = workers
        self.inputs, self.outputs = inputs, outputs
        self.at_once = replicas
        self._memory = _LEAST_BYTES * replicas

    def load(self) -> None:
        """Start the first worker. Raise ModelLoadError if it can't load the model."""
        self._hosts.load()
        self.measure()

    @property
    def memory(self) -> int:  # type: ignore[override]
        """What all workers take, or took when there were any: idle ones come back."""
        return self._memory

    def measure(self) -> None:
        super().measure()
        workers = self._hosts.count
        if workers:
            self._memory = max(self._hosts.taken // workers, _LEAST_BYTES) * self.at_once

    def give_back(self) -> None:
        """End no workers: there are as many as were asked for."""

    def new_stream(self, held: set[object]) -> ModelStream:
        return PythonStream(self, self._hosts, held)

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        outputs = super().run(arrays, stop)
        check_answer(outputs, len(self.outputs))
        return outputs

    def reserve(self, arrays: Sequence[Array]) -> Errand | None:
        host = self._hosts.take_now() if is_short(arrays) else None
        return None if host is None else PythonErrand(self._hosts, host, len(self.outputs))
