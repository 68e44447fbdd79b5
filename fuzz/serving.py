"""
A real engine in front of a real Redis, and another client of it: whatever was sent, both processes go on, the other
client is served, and memory, threads and open files stay bounded. Models share processes, so that the other client's
share theirs with what was sent.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from fuzz.limits import Fault
from support.connection import Connection, connected
from support.gateway import predict, store_model
from support.servers import start_engine, start_redis

SECONDS = 30.0  # in which everything must be answered, on a machine that does other things too
START_SECONDS = 300.0  # in which frameworks are imported
MEBIBYTES = 1024  # that the engine's processes may grow by, after frameworks are loaded
MOST_THREADS = 200
MOST_FILES = 400

STEADY = "steady"  # the other client's model, and how the names of its further ones begin


class ServerFault(Fault):
    """What happened to the engine, Redis or the other client."""


def _memory_of(pid: int) -> int:
    """Return a process's share of memory in bytes: what forked processes have in common counts once."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    return int(told.partition("\nPss:")[2].split()[0]) << 10


class Serving:
    """Both servers. What is sent to the engine is sent in a block `checked`, which starts them again after a fault."""

    def __init__(
        self,
        folder: Path,
        warm: Callable[[Connection], None],
        neighbours: Mapping[str, tuple[bytes, int]] | None = None,
    ) -> None:
        """`neighbours` are further models of the other client, by backend: a blob with two inputs, and its outputs."""
        self._folder = folder
        self._warm = warm
        self._neighbours = dict(neighbours or {})
        self._count = 0
        self._start()

    @contextlib.contextmanager
    def checked(self) -> Iterator[Connection]:
        """Yield a connection. Raise ServerFault if anybody suffers from what is sent over it."""
        try:
            with connected(self.engine) as wire:
                wire.socket.settimeout(SECONDS)
                try:
                    yield wire
                except TimeoutError:
                    raise ServerFault("unanswered", f"no answer for {SECONDS:g} s\n{self._log()}") from None
                except (AssertionError, ConnectionError) as error:
                    self._check()
                    raise ServerFault(f"out-of-step-{type(error).__name__}", f"{error}\n{self._log()}") from error
            self._check()
        except ServerFault:
            self.stop()
            self._start()
            raise

    def stop(self) -> None:
        self.engine.stop()
        self.redis.stop()

    def _start(self) -> None:
        self._count += 1
        folder = self._folder / str(self._count)
        self.redis = start_redis(folder / "redis")
        self.engine = start_engine(folder / "engine", "--redis", self.redis.url, "--hosts-per", "backend")
        self._read = 0
        with connected(self.engine) as other:
            store_model(other, STEADY)
            other.socket.settimeout(START_SECONDS)
            self._warm(other)
            self._answers = {backend: self._ask_new(other, backend) for backend in self._neighbours}
        self._before = self._memory()

    def _check(self) -> None:
        if self.engine.process.poll() is not None:
            code = self.engine.process.returncode
            raise ServerFault(f"engine-ended-{code}", f"the engine ended with {code}\n{self._log()}")
        if self.redis.process.poll() is not None:
            raise ServerFault("redis-ended", self.redis.log.read_text()[-2000:])
        self._serve_another()
        log = self._log()
        if found := re.search(r"bug in the engine|Traceback.*\n(?:[ \t].*\n)*(\w+)", log):
            raise ServerFault(f"logged-{found[1] or 'bug'}", log)
        self._check_resources()

    def _serve_another(self) -> None:
        try:
            with connected(self.engine) as other:
                other.socket.settimeout(SECONDS)
                if predict(other, STEADY, 2, 3) != 5.0:  # FLUSHALL, or its key was overwritten
                    store_model(other, STEADY)
                    answer = predict(other, STEADY, 2, 3)
                    assert answer == 5.0, answer
                for backend, answer in self._answers.items():
                    told = self._ask_neighbour(other, backend)
                    if told != answer:
                        told = self._ask_new(other, backend)
                    assert told == answer, told
        except (AssertionError, OSError) as error:
            name = f"another-client-{type(error).__name__}"
            raise ServerFault(name, f"another client: {error!r}\n{self._log()}") from error

    def _ask_new(self, other: Connection, backend: str) -> bytes:
        blob, _ = self._neighbours[backend]
        stored = other.ask("AI.MODELSTORE", STEADY + backend, backend, "CPU", "BLOB", blob)
        assert stored == b"+OK\r\n", stored
        return self._ask_neighbour(other, backend)

    def _ask_neighbour(self, other: Connection, backend: str) -> bytes:
        """Return the first output's values, in the reply of a DAG."""
        key, outputs = STEADY + backend, self._neighbours[backend][1]
        return other.ask(
            f"AI.DAGEXECUTE_RO ROUTING {key} |> AI.TENSORSET x FLOAT 1 2 VALUES 3 4 |> AI.MODELEXECUTE {key} "
            f"INPUTS 2 x x OUTPUTS {outputs} {' y0 y1'[: 3 * outputs]} |> AI.TENSORGET y0 VALUES"
        )

    def _check_resources(self) -> None:
        grown = (self._memory() - self._before) >> 20
        if grown > MEBIBYTES:  # Python and the frameworks keep some of what they have freed
            raise ServerFault("memory", f"the engine grew by {grown} MiB")
        process = psutil.Process(self.engine.process.pid)
        if process.num_threads() > MOST_THREADS:
            raise ServerFault("threads", f"the engine has {process.num_threads()} threads")
        if process.num_fds() > MOST_FILES:
            raise ServerFault("files", f"the engine has {process.num_fds()} open files")

    def _memory(self) -> int:
        parent = psutil.Process(self.engine.process.pid)
        return sum(map(_memory_of, (parent.pid, *(child.pid for child in parent.children(recursive=True)))))

    def _log(self) -> str:
        """Return what the engine has logged since the latest call."""
        text = self.engine.log.read_text(errors="replace")
        new: str = text[self._read :]
        self._read = len(text)
        return new[-4000:]
