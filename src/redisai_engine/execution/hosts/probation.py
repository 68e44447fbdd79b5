"""
Probation: a model is loaded and run once in a host before it may be loaded in the engine's process.

Theory of operation. The engine's process can't stop a load, bound its memory or survive its crash; a host's end hurts
nobody. So the first load of each blob takes place in a host, with limits on time and memory. What passes does the same
again in the engine's process, and is therefore expected to take as long there. Digests that have passed are remembered.

Invariant: whatever a blob does, its host has ended when `try_out` returns.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from redisai_engine.backends.base import BackendSettings, parse_device
from redisai_engine.errors import HostOutOfMemory, ModelLoadError, ModelRunError, ProbationFailed
from redisai_engine.execution.hosts.frames import TRIAL
from redisai_engine.execution.hosts.models import HostLimits, file_with, memory_for
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.process import Host, HostEnded, HostNotStarted

_REMEMBERED = 10_000  # digests
_LONG_NAMES = 1000  # characters of all names together


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is tried out: a blob, known by its digest, on a device."""

    digest: str
    device: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class Passed:
    """
    What is known of a model that has passed: how long it takes to load, and what may end the process that runs it.

    An empty `danger` means that nothing is known to. `names` are those of its inputs and outputs, unless they are long.
    """

    seconds: float
    danger: str
    names: tuple[tuple[str, ...], tuple[str, ...]] | None = None


class Probation:
    """The probation of models of `parent`'s backend. Its methods may be called in any thread."""

    def __init__(self, parent: Parent, host_limits: HostLimits) -> None:
        self._parent = parent
        self._limits = host_limits
        self._lock = threading.Lock()
        self._passed: OrderedDict[tuple[str, str], Passed] = OrderedDict()  # by digest and device

    def passed(self, candidate: Candidate, settings: BackendSettings) -> Passed:
        """
        Return what is known of the model. Try it out first if it hasn't passed yet.

        Raise ProbationFailed for what crashes, takes too long or too much memory, and otherwise the errors of a load.
        """
        name = (candidate.digest, candidate.device)
        with self._lock:
            known = self._passed.get(name)
            if known is not None:
                self._passed.move_to_end(name)
                return known
        passed = self._try_out(candidate, settings)
        with self._lock:
            self._passed[name] = passed
            if len(self._passed) > _REMEMBERED:
                self._passed.popitem(last=False)
        return passed

    def _try_out(self, candidate: Candidate, settings: BackendSettings) -> Passed:
        memory = memory_for(self._limits, len(candidate.blob))
        try:
            with file_with(candidate.blob) as file:
                host = Host(self._parent, file.fileno(), memory=memory, gpu=parse_device(candidate.device)[0] == "GPU")
        except HostNotStarted as error:
            raise _not_tried(error) from None
        try:
            return self._run(host, candidate, settings)
        except TimeoutError:
            raise ProbationFailed(
                f"took longer than {self._limits.load_seconds * 1000:.0f} ms (model-load-timeout)"
            ) from None
        except HostOutOfMemory:
            raise ProbationFailed(f"needed more memory than {memory} bytes (host-memory)") from None
        except HostEnded as error:
            if error.by_itself:
                raise ProbationFailed(str(error)) from None
            raise _not_tried(error) from None
        finally:
            host.close()

    def _run(self, host: Host, candidate: Candidate, settings: BackendSettings) -> Passed:
        """Have the model loaded and run."""
        begin = monotonic()
        about, _ = host.ask(
            {
                "backend": self._parent.backend,
                "device": candidate.device,
                "inputs": [],
                "outputs": [],
                "threads": [settings.intra_op_threads, settings.inter_op_threads],
                "on_probation": True,
            },
            seconds=self._limits.load_seconds,
        )
        took = monotonic() - begin
        self._parent.say_missing(about["missing"])
        with suppress(ModelRunError):  # an error is an answer: other inputs may suit the model better
            host.ask(TRIAL, seconds=max(self._limits.load_seconds - took, 0.0))
        names = tuple(about["inputs"]), tuple(about["outputs"])
        is_short = sum(map(len, (*names[0], *names[1]))) <= _LONG_NAMES
        return Passed(took, about["danger"], names if is_short else None)


def _not_tried(error: HostEnded) -> ModelLoadError:
    return ModelLoadError(f"ERR the model can't be loaded: the process that tried it out {error}")
