"""
Backends and models that are served in hosts, in the form that the rest of the engine knows.

Theory of operation. A model's blob is kept in an unnamed file, from which each of its hosts loads it. A run takes a
free host of the model, or starts another one as long as runs at the same time need it. The run's thread waits for the
answer. To stop a run, its host is killed. A host that has died is replaced by the next run, but not at once if hosts of
this model keep dying, and not at all after five deaths in a minute: the model must then be stored anew.

Invariant: when the last reference to a model is gone, so are its hosts and its file.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import IO, Any

from redisai_engine.backends.base import (
    Array,
    Backend,
    BackendSettings,
    LoadedModel,
    Outputs,
    Stop,
    TensorInfo,
    parse_device,
)
from redisai_engine.errors import ModelKeepsDying, ModelLoadError, ModelRunError
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.process import Host, HostEnded, HostNotStarted, HostSource, Line, Reply
from redisai_engine.execution.hosts.restarts import Restarts
from redisai_engine.folders import new_file

_log = logging.getLogger(__name__)

_DEATHS = 5  # in a minute, after which a model has failed
_FAILED = f"ERR the model has failed: its process has died {_DEATHS} times within a minute; store it anew"
_PATIENCE = 1.0  # seconds that a run waits for a host that may not be started yet
FACTOR = 4  # a loaded model takes at most so many times its blob, besides what its runs take


@dataclass(frozen=True, slots=True)
class HostLimits:
    """
    What hosts get: seconds to load, bytes of memory besides the model (0: any), runs of one model at a time.

    `together` is how many bytes the hosts of one model may take (0: any). One may be more, but no second one then.
    `load_setting` is where the first of all comes from. `awake_seconds` is how long engine and host stay
    awake for each other around a short run.
    """

    load_seconds: float
    memory: int
    at_once: int
    together: int = 0
    load_setting: str = "model-load-timeout"
    awake_seconds: float = 0.0


class StopHost(Stop):
    """
    The switch of one run. It kills the host that carries the run out, if one does.

    A run `in_loop` takes place in the event loop, which must not wait for a host to start. While it `waits` for one
    that may take long to start, the run hasn't begun.
    """

    def __init__(self, *, in_loop: bool = False) -> None:
        self.in_loop = in_loop
        self.waits = False
        self._lock = threading.Lock()
        self._host: Line | None = None
        self._inner: Stop | None = None  # of a model that the script in the host runs
        self._terminate = False

    @property
    def terminate(self) -> bool:
        return self._terminate

    @terminate.setter
    def terminate(self, value: bool) -> None:
        with self._lock:
            self._terminate = value
            if value and self._host is not None:
                self._host.kill()
            if value and self._inner is not None:
                self._inner.terminate = True

    @contextmanager
    def stopping(self, inner: Stop | None) -> Iterator[Stop | None]:
        """Use this switch for another run, too."""
        with self._lock:
            self._inner = inner
            if inner is not None and self._terminate:
                inner.terminate = True
        try:
            yield inner
        finally:
            with self._lock:
                self._inner = None

    def begin(self, host: Line) -> None:
        """Stop this host from now on."""
        with self._lock:
            self._host = host
            if self._terminate:
                host.kill()

    def end(self) -> bool:
        """Stop nothing any more. Return whether the host has been killed."""
        with self._lock:
            self._host = None
            return self._terminate


class HostedBackend(Backend):
    """A backend whose models run in hosts."""

    def __init__(self, parent: Parent, host_limits: HostLimits) -> None:
        self.name = parent.backend  # type: ignore[misc]
        self._parent = parent
        self._limits = host_limits

    @property
    def version(self) -> str:  # type: ignore[override]
        return self._parent.version

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        about = {
            "backend": self.name,
            "device": device,
            "inputs": list(inputs),
            "outputs": list(outputs),
            "threads": [settings.intra_op_threads, settings.inter_op_threads],
        }
        model = HostedModel(self._hosts(about, blob))
        model.load()
        return model

    def _hosts(self, about: dict[str, Any], blob: bytes) -> Hosts:
        return Hosts(self._parent, self._limits, about, blob)


class HostedModel(LoadedModel):
    """A model in hosts."""

    is_elsewhere = True

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._steady = False

    def load(self) -> None:
        """Start the first host. Raise ModelLoadError if it can't load the model."""
        about = self._hosts.load()
        self.measure()
        self.inputs, self.outputs = tuple(about["inputs"]), tuple(about["outputs"])
        inputs, outputs = about["infos"]
        self.input_infos = tuple(TensorInfo(dtype, tuple(shape)) for dtype, shape in inputs)
        self.output_infos = tuple(info and TensorInfo(info[0], tuple(info[1])) for info in outputs)
        self._steady, self.takes_text, self.loop_rows = about["steady"], about["takes_text"], about["loop_rows"]

    @property
    def steady(self) -> bool:
        """Whether a run would neither surprise nor wait for a host: such short ones are run by the event loop."""
        return self._steady and self._hosts.has_free

    @steady.setter
    def steady(self, value: bool) -> None:
        self._steady = value

    @property
    def deaths(self) -> int:  # type: ignore[override]
        return self._hosts.deaths

    @property
    def failure(self) -> str:  # type: ignore[override]
        return self._hosts.failure

    @property
    def memory(self) -> int:  # type: ignore[override]
        return self._hosts.weigh()

    @property
    def taken(self) -> int | None:  # type: ignore[override]
        return self._hosts.taken

    def measure(self) -> None:
        self._hosts.measure()

    def give_back(self) -> None:
        self._hosts.give_back()

    def new_stop(self) -> Stop | None:
        return StopHost(in_loop=threading.current_thread() is threading.main_thread())

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        return self._hosts.run(None, arrays, stop or StopHost())


class Hosts:
    """The hosts of one model or script. `about` is what the first message to each of them says."""

    def __init__(self, origin: HostSource, host_limits: HostLimits, about: dict[str, Any], content: bytes) -> None:
        self._origin = origin
        origin.enter(self)  # a run that has to start a host must not have to wait for more than that
        self._limits = host_limits
        self._about = {**about, "awake_seconds": host_limits.awake_seconds}
        self._what = f"{about['backend']} model" if "backend" in about else "script"
        self._memory = memory_for(host_limits, len(content))
        self._file = file_with(content)
        self._free: list[Line] = []
        self._all: set[Line] = set()
        self._starting = 0
        self.deaths = 0
        self._changed = threading.Condition()
        self._most = host_limits.at_once  # as long as they don't take too much together
        self._restarts = Restarts(_DEATHS)
        weakref.finalize(self, _end, self._file, self._all)

    def load(self) -> dict[str, Any]:
        """Start the first host and return what it says of the model. Raise ModelLoadError."""
        host, said = self._start(StopHost())
        self._free.append(host)
        return said

    def run(
        self,
        message: Any,
        arrays: Sequence[Array],
        stop: StopHost,
        reply: Reply | None = None,
    ) -> Outputs:
        """Carry out one run. `reply` answers what the host asks meanwhile. Raise ModelRunError."""
        if stop.terminate:
            raise stopped()
        host = self._take_free() if stop.in_loop else self._take(stop)
        if host is None:
            stop.terminate = True  # the executor then leaves the run to a thread
            raise stopped()
        stop.begin(host)
        if stop.in_loop and message is None:
            return self.finish(host, stop, lambda: host.ask_awake(arrays))
        return self.finish(host, stop, lambda: host.ask(message, arrays, reply=reply)[1])

    def finish(self, host: Line, stop: StopHost, answer: Callable[[], Outputs]) -> Outputs:
        """Return the answer of a host that is asked, and give the host back. Raise ModelRunError."""
        ended = True
        try:
            outputs = answer()
            ended = False
        except HostEnded as error:
            raise self.death(error, stop) from None
        except ModelRunError:
            ended = False
            raise
        finally:
            self._give_back(host, ended=stop.end() or ended)
        return outputs

    def lend(self, stop: StopHost) -> Line:
        """Return a host that does nothing else until `take_back`. Wait for one. Raise ModelRunError."""
        return self._take(stop)

    def take_back(self, host: Line, *, ended: bool) -> None:
        self._give_back(host, ended=ended)

    def death(self, error: HostEnded, stop: StopHost) -> ModelRunError:
        """Take note that a host has ended in a run, and return the run's error."""
        if stop.terminate:
            return stopped()
        self._died()
        return ModelRunError(f"ERR the model's process {error}; the next run starts another one")

    @property
    def taken(self) -> int:
        """What all hosts took of the machine's memory when each was last measured, in bytes."""
        return sum(host.taken for host in list(self._all))

    def measure(self) -> None:
        """Measure `taken`, which takes milliseconds for each host."""
        for host in list(self._all):
            host.measure()

    def weigh(self) -> int:
        """Return the bytes that all hosts take now, and see to it that there are no more than may take so much."""
        self._end_restless()
        weights = [host.memory for host in list(self._all)]
        largest = max(weights, default=0)
        if self._limits.together and largest:
            self._most = max(1, min(self._limits.at_once, self._limits.together // largest))
        return sum(weights)

    def _end_restless(self) -> None:
        """End the hosts that go on computing after their last answer: a model can leave threads behind."""
        with self._changed:
            for host in [free for free in self._free if free.computes_unasked()]:
                _log.warning("a process of a %s was ended: it went on computing after its last answer", self._what)
                self._free.remove(host)
                self._end_one(host)

    def give_back(self) -> None:
        """End the hosts that only runs at the same time need."""
        with self._changed:
            while self._free and len(self._all) > 1:
                self._end_one(self._free.pop())

    @property
    def failure(self) -> str:
        """Why no host is started any more, as runs are told; empty as long as hosts are."""
        return _FAILED if self._restarts.failed else ""

    @property
    def has_free(self) -> bool:
        """Whether a run could begin now."""
        return bool(self._free)

    def _take_free(self) -> Line | None:
        with self._changed:
            return self._free.pop() if self._free else None

    def _take(self, stop: StopHost) -> Line:
        """Return a free host, or start one."""
        with self._changed:
            while not self._free and len(self._all) + self._starting >= self._most:
                self._changed.wait()
            if self._free:
                return self._free.pop()
            self._starting += 1
        try:
            self._wait_for_restart()
            return self._start(stop)[0]
        except ModelLoadError as error:
            raise ModelRunError(error.wire) from error
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify()

    def _give_back(self, host: Line, *, ended: bool) -> None:
        with self._changed:
            if ended or len(self._all) > self._most:
                self._end_one(host)
            else:
                self._free.append(host)
            self._changed.notify()

    def _end_one(self, host: Line) -> None:
        self._all.discard(host)
        host.close()

    def _wait_for_restart(self) -> None:
        """Wait until another host may be started. Raise ModelRunError if that takes too long."""
        with self._changed:
            wait = self._restarts.wait(monotonic())
        self._refuse_if_dying(wait)
        sleep(wait)

    def _refuse_if_dying(self, wait: float) -> None:
        """Raise ModelRunError if no host may be started for longer than a run waits."""
        if self._restarts.failed:
            raise ModelKeepsDying(self.failure)
        if wait > _PATIENCE:
            raise ModelRunError(f"ERR the model's process keeps dying; it is started again in {wait:.1f} s")

    def _died(self) -> None:
        with self._changed:
            self.deaths += 1
            self._restarts.died(monotonic())

    def _start(self, stop: StopHost) -> tuple[Line, dict[str, Any]]:
        """Start a host and have it load the model. Return it with what it says of the model. Raise ModelLoadError."""
        try:
            host = self._new_host()
        except HostNotStarted as error:
            raise self._load_error(error, stop) from None
        try:
            stop.begin(host)
            said, _ = host.ask(self._about, seconds=self._limits.load_seconds)
            if said is None:
                raise HostEnded("was ended because it answered nonsense (a run that nobody asked for)")
        except BaseException as error:
            host.close()
            raise self._load_error(error, stop) from error
        finally:
            stop.end()
        if "weight" in said:
            host.weigh(*said["weight"])
        self._all.add(host)
        self.weigh()
        self._origin.say_missing(said.get("missing", ()))
        return host, said

    def _new_host(self) -> Line:
        """Start a host, which has not loaded anything yet. Raise HostNotStarted and ModelLoadError."""
        return Host(
            *(self._origin, self._file.fileno()),
            memory=self._memory,
            gpu=self._is_on_gpu,
            awake_seconds=self._limits.awake_seconds,
        )

    @property
    def _is_on_gpu(self) -> bool:
        return parse_device(self._about["device"])[0] == "GPU"

    def _load_error(self, error: BaseException, stop: StopHost) -> BaseException:
        if isinstance(error, TimeoutError):
            seconds = self._limits.load_seconds
            return ModelLoadError(
                f"ERR loading takes longer than {seconds * 1000:.0f} ms ({self._limits.load_setting})"
            )
        if isinstance(error, HostEnded):
            if stop.terminate:
                return stopped()
            if not isinstance(error, HostNotStarted):
                self._died()
            return ModelLoadError(f"ERR the model can't be loaded: its process {error}")
        return error


def stopped() -> ModelRunError:
    return ModelRunError(
        "ERR the run takes longer than model-execution-timeout allows; its process was ended, and the next run starts "
        "another one"
    )


def memory_for(host_limits: HostLimits, size: int) -> int:
    """Return how many bytes the host of a blob of this size may take; 0 means any number."""
    return host_limits.memory and host_limits.memory + FACTOR * size


def file_with(content: bytes) -> IO[bytes]:
    """Return an unnamed file. Raise ModelLoadError if there is no room for it."""
    try:
        file = new_file()
        file.write(content)
        file.flush()
    except OSError as error:
        raise ModelLoadError(
            f"ERR the model can't be loaded: no temporary file of {len(content)} bytes can be written: "
            f"{error.strerror or os.strerror(error.errno or 0)}"
        ) from error
    return file


def _end(file: IO[bytes], hosts: set[Line]) -> None:
    file.close()
    for host in list(hosts):
        host.close()
