"""
The answers of a model's `predict_stream`, one after another.

Theory of operation. A stream keeps one of the model's workers from its first item to its last. An item is made when it
is asked for, as in Python: the engine asks the worker, the worker resumes the model's generator. So at most one item is
held anywhere, and nothing has to be thrown away when a client reads slowly or leaves.

Invariant: once `is_over`, the worker is free for others, or has ended. Of `run` and `close`, which different threads
may call, one ends the stream that is closed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from redisai_engine.backends.base import Array, LoadedModel, ModelStream, Outputs
from redisai_engine.errors import ModelRunError
from redisai_engine.execution.hosts.models import Hosts, StopHost, stopped
from redisai_engine.execution.hosts.process import HostEnded, Line


class PythonStream(ModelStream):
    """One stream of `model`, whose workers are `hosts`."""

    is_elsewhere = True
    at_once = 1

    def __init__(self, model: LoadedModel, hosts: Hosts, held: set[object]) -> None:
        self._model = model  # which must not go before its stream
        self._hosts = hosts
        self._held = held
        self._host: Line | None = None
        self._lock = threading.Lock()
        self._runs = False
        self._closing = False

    def new_stop(self) -> StopHost:
        return StopHost()

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        """Return the next item, one array for each output, or nothing at the end. Raise ModelRunError."""
        with self._lock:
            if self._runs or self.is_over:
                return []
            self._runs = True
        switch = stop or StopHost()
        try:
            return [] if self._closing else self._next(arrays, switch)
        finally:
            with self._lock:
                self._runs = False
                is_closed = self._closing and not self.is_over
            if is_closed:
                self._end(switch)

    def close(self) -> bool:
        with self._lock:
            self._closing = True
            return not self._runs and not self.is_over

    def _next(self, arrays: Sequence[Array], stop: StopHost) -> Outputs:
        if self._host is None:
            self._host = self._hosts.lend(stop)
            self._held.add(self)
        outputs = self._ask("begin" if arrays else "next", arrays, stop)
        if not self.is_over and len(outputs) != len(self._model.outputs):
            self._leave(ended=True)
            raise ModelRunError(f"ERR the worker answered {len(outputs)} tensors instead of {len(self._model.outputs)}")
        return outputs

    def _end(self, stop: StopHost) -> None:
        """Have the model's generator closed. What it says to that interests nobody; the log has it."""
        if self._host is None:
            self.is_over = True
            return
        with contextlib.suppress(ModelRunError):
            self._ask("end", (), stop)

    def _ask(self, step: str, arrays: Sequence[Array], stop: StopHost) -> Outputs:
        """Have the worker do a step. The stream is over if that is its last one, or fails."""
        assert self._host is not None
        is_last = ended = True
        was_stopped = False
        try:
            stop.begin(self._host)
            answer, outputs = self._host.ask({"stream": step}, arrays)
            ended = step == "end" and answer is None  # it goes on although its generator was closed
            is_last = answer is not None or ended
        except HostEnded as error:
            raise self._hosts.death(error, stop) from None
        except ModelRunError:
            ended = False
            raise
        finally:
            was_stopped = stop.end()
            if is_last or was_stopped:
                self._leave(ended=ended or was_stopped)
        if was_stopped:
            raise stopped()
        return outputs

    def _leave(self, *, ended: bool) -> None:
        """Give the worker back."""
        host, self._host = self._host, None
        self.is_over = True
        self._held.discard(self)
        if host is not None:
            self._hosts.take_back(host, ended=ended)
