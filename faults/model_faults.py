"""Faults of models and scripts."""

from __future__ import annotations

import itertools
import re
import threading
from time import monotonic
from types import TracebackType

import psutil

from faults.fault import Fault
from faults.processes import Processes, embedded
from support.connection import Connection, connected
from support.obedient import obedient, workers_of
from support.servers import Server
from support.tiny_models import onnx_counter, product_and_sum
from support.waiting import wait_until

_PYTHON = "faults:python"
_CLIENTS = 8
_KILLS = 3  # after five in a minute, the model would have failed
_BACK_SECONDS = 5.0

_ENDLESS = """def f(tensors: List[Tensor], keys: List[str], args: List[str]):
    x = torch.ones(1)
    while bool(x.sum() > 0):
        x = x + 1
    return x
"""


def model_process_is_killed(there: Processes) -> None:
    _store_torch(there)
    host = there.hosts()[0]
    host.kill()
    wait_until(lambda: not host.is_running() or host.status() == psutil.STATUS_ZOMBIE, what="the host's end")
    _run_torch(there)


def python_worker_is_killed(there: Processes) -> str:
    """Kill a Python model's worker, while several clients use it. Return what they saw, and when they went on."""
    stored = there.ask("AI.MODELSTORE", _PYTHON, "PYFUNC", "CPU", "BLOB", obedient())
    assert stored == b"+OK\r\n", stored
    with PythonClients(there.engine) as clients:
        pauses = [_pause_after_kill(there.engine, clients) for _ in range(_KILLS)]
    assert not clients.wrong, clients.wrong[:3]
    assert 1 <= len(clients.errors) <= _KILLS, clients.errors[:9]
    assert all("ended by signal 9 (SIGKILL)" in error for error in clients.errors), clients.errors
    assert max(pauses) < _BACK_SECONDS, f"no answer for {max(pauses):.1f} s"
    return (
        f"{len(clients.answers):,} answers of the Python model, none of them for {max(pauses):.2f} s at most; "
        f"{len(clients.errors)} × `{clients.errors[0]}`"
    )


def _pause_after_kill(engine: Server, clients: PythonClients) -> float:
    """Kill the worker. Return for how long nobody was answered."""
    _wait_for_answers(clients, 50)
    (worker,) = workers_of(engine)
    worker.kill()
    killed_at = monotonic()
    wait_until(lambda: [each for each in workers_of(engine) if each.pid != worker.pid], timeout_s=60, what="a worker")
    _wait_for_answers(clients, _CLIENTS)
    return clients.longest_pause(killed_at)


def _wait_for_answers(clients: PythonClients, count: int) -> None:
    before = len(clients.answers)
    wait_until(lambda: len(clients.answers) >= before + count, timeout_s=60, what="answers of the Python model")


class PythonClients:
    """Clients of the Python model between `with`, each of which asks for something of its own, again and again."""

    def __init__(self, engine: Server) -> None:
        self._engine = engine
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(_CLIENTS)]
        self.answers: list[float] = []  # when each was there
        self.errors: list[str] = []
        self.wrong: list[str] = []

    def __enter__(self) -> PythonClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def longest_pause(self, since: float) -> float:
        """Return the longest time in seconds without any answer, from this moment on."""
        times = [since, *sorted(when for when in self.answers if when > since)]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def _client(self, number: int) -> None:
        try:
            with connected(self._engine) as wire:
                wire.socket.settimeout(60)
                while not self._ending.is_set():
                    self._ask(wire, f"wait 0.01{number}")  # so that there is a run at any time
        except (OSError, AssertionError) as error:  # of `Connection`: the connection ended before the reply
            self.wrong.append(f"a client was cut off: {error}")

    def _ask(self, wire: Connection, command: str) -> None:
        text = ("|>", "AI.TENSORSET", "x", "STRING", 1, "VALUES", command)
        run = ("|>", "AI.MODELEXECUTE", _PYTHON, "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        reply = wire.ask("AI.DAGEXECUTE_RO", "ROUTING", _PYTHON, *text, *run, "|>", "AI.TENSORGET", "y", "VALUES")
        error = re.search(rb"(?:^|\r\n)-([^\r]*)", reply)
        if error:
            self.errors.append(error[1].decode(errors="replace"))
        elif reply.endswith(b"\r\n%s\r\n" % command.encode()):
            self.answers.append(monotonic())
        else:
            self.wrong.append(f"{command!r}: {reply!r:.200}")


def script_never_ends(there: Processes) -> None:
    stored = there.ask("AI.SCRIPTSTORE", "faults:s", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", _ENDLESS)
    assert stored == b"+OK\r\n", stored
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        reply = wire.ask("AI.SCRIPTEXECUTE faults:s f KEYS 1 faults:s OUTPUTS 1 faults:y")
        assert reply[:1] == b"-", reply


def run_takes_too_long(there: Processes) -> None:
    there.ask("AI.MODELSTORE", "faults:long", "ONNX", "CPU", "BLOB", onnx_counter())
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        sets = "|> AI.TENSORSET n INT64 1 VALUES 1000000000000"
        run = "|> AI.MODELEXECUTE faults:long INPUTS 1 n OUTPUTS 1 y |> AI.TENSORGET y BLOB"
        assert b"-" in wire.ask(f"AI.DAGEXECUTE_RO ROUTING faults:long {sets} {run}")


def blob_is_damaged(there: Processes) -> None:
    blob = onnx_counter()
    for end in range(1, len(blob), max(1, len(blob) // 50)):
        there.ask("AI.MODELSTORE", "faults:damaged", "ONNX", "CPU", "BLOB", blob[:end])


def _store_torch(there: Processes) -> None:
    model = product_and_sum("TORCH")
    assert there.ask("AI.MODELSTORE", "faults:torch", "TORCH", "CPU", "BLOB", model.blob) == b"+OK\r\n"
    _run_torch(there)


def _run_torch(there: Processes) -> None:
    sets = "|> AI.TENSORSET a FLOAT 1 VALUES 2 |> AI.TENSORSET b FLOAT 1 VALUES 3"
    run = "|> AI.MODELEXECUTE faults:torch INPUTS 2 a b OUTPUTS 2 y z |> AI.TENSORGET y VALUES"
    wait_until(lambda: b"\r\n-" not in there.ask(f"AI.DAGEXECUTE_RO ROUTING faults:torch {sets} {run}"), what="a run")


FAULTS = [
    Fault("A model's process is killed", "model-killed", embedded, model_process_is_killed, "", is_short=True),
    Fault(
        "A Python model's worker is killed, three times",
        "python-worker-killed",
        embedded,
        python_worker_is_killed,
        "",
        ("--python-models", "yes"),
    ),
    Fault(
        "A script never ends",
        "script-hangs",
        embedded,
        script_never_ends,
        "",
        ("--model-execution-timeout", "1000"),
    ),
    Fault(
        "A run of an ONNX model never ends",
        "run-hangs",
        embedded,
        run_takes_too_long,
        "",
        ("--model-execution-timeout", "1000"),
    ),
    Fault("Fifty damaged models are stored", "damaged-models", embedded, blob_is_damaged, ""),
]
