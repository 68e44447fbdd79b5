"""Models that share a process: what one of them does is no other's error, and none does it twice."""

from __future__ import annotations

import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import psutil
import pytest

from redisai_engine.execution.hosts.sharing import seats
from redisai_engine.protocol.frames import decode
from support.hosts import hosts_of, parents_of, torch_eater, torch_loop, torch_restless
from support.servers import Server, start_engine
from support.tiny_models import product_and_sum, torchscript
from support.torch_scripts import needs_torch
from support.waiting import is_running, wait_until
from support.wire import Wire

pytestmark = [needs_torch, pytest.mark.slow]

LIMIT_MS = 2000
HOST_MEMORY = 2**29
SHORT_OF_MEMORY = "t allocate memory"  # what PyTorch says of it
SHARED = [f"m{number}" for number in range(10)]


@cache
def torch_countdown() -> bytes:
    """Return a TorchScript model that takes as many steps as its input says, and returns -1."""
    import torch

    class Countdown(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while bool(x.max() >= 0):
                x = x - 1
            return x

    return torchscript(Countdown())


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine whose models of each backend share processes."""
    engine = start_engine(
        tmp_path_factory.mktemp("sharing"),
        *("--hosts-per", "backend", "--model-execution-timeout", str(LIMIT_MS), "--host-memory", str(HOST_MEMORY)),
        *("--threads-per-queue", "4"),
    )
    yield engine
    engine.stop()


@pytest.fixture
def patient(new_engine: Callable[..., Server]) -> Server:
    """The same without a limit on how long runs take, for those that must not end before something else happens."""
    return new_engine("--hosts-per", "backend", "--model-execution-timeout", "0", "--threads-per-queue", "4")


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    """A connection to an engine that has nothing in memory."""
    with Wire(serving.port, timeout_s=60) as wire:
        yield wire
        for key in wire.ask("KEYS", "*"):  # type: ignore[attr-defined]
            wire.ask("DEL", key)
        wait_until(lambda: not hosts_of(serving))


def store(wire: Wire, key: str, blob: bytes, backend: str = "TORCH", *options: str) -> None:
    assert wire.ask("AI.MODELSTORE", key, backend, "CPU", *options, "BLOB", blob) == b"OK"


def ask_product(wire: Wire, key: str) -> object:
    """Return the product, 6, that `product_and_sum` makes of 2 and 3; its outputs have no order in TFLITE."""
    reply = wire.ask(
        *("AI.DAGEXECUTE", "ROUTING", key, "|>", "AI.TENSORSET", "a", "FLOAT", 1, 1, "VALUES", 2),
        *("|>", "AI.TENSORSET", "b", "FLOAT", 1, 1, "VALUES", 3),
        *("|>", "AI.MODELEXECUTE", key, "INPUTS", 2, "a", "b", "OUTPUTS", 2, "p", "s"),
        *("|>", "AI.TENSORGET", "p", "BLOB", "|>", "AI.TENSORGET", "s", "BLOB"),
    )
    found = sorted(reply[-2:], key=str) if isinstance(reply, list) else []
    return 6 if found == [struct.pack("<f", 5), struct.pack("<f", 6)] else reply


def send_run(wire: Wire, key: str, value: float) -> None:
    """Begin a run of a model with one input of one number."""
    wire.ask("AI.TENSORSET", f"x{key}", "FLOAT", 1, "VALUES", value)
    wire.send("AI.MODELEXECUTE", key, "INPUTS", 1, f"x{key}", "OUTPUTS", 1, f"y{key}")


def shared_by(serving: Server, wire: Wire, keys: list[str]) -> psutil.Process:
    """Store models that share a process, and return that."""
    for key in keys:
        store(wire, key, product_and_sum("TORCH").blob)
    return the_host(serving)


def the_host(serving: Server) -> psutil.Process:
    """Return the only host, as soon as those that models were tried out in have ended."""
    wait_until(lambda: len(hosts_of(serving)) == 1, what="one host")
    return hosts_of(serving)[0]


def wait_until_computing(host: psutil.Process, runs: int = 1) -> None:
    """Wait until so many threads have used more processor time from now on than a load takes."""
    at_first: dict[int, float] = {}

    def are_busy() -> bool:
        grown = [thread.user_time - at_first.setdefault(thread.id, thread.user_time) for thread in host.threads()]
        return sum(seconds > 0.1 for seconds in grown) >= runs

    wait_until(are_busy, what=f"{runs} busy threads")


def end_host(host: psutil.Process, number: int = signal.SIGSEGV) -> None:
    host.send_signal(number)
    wait_until(lambda: not is_running(host.pid))


def test_small_models_of_tflite_share_a_process_unless_told_otherwise(new_engine: Callable[..., Server]) -> None:
    pytest.importorskip("ai_edge_litert")
    engine = new_engine()
    with Wire(engine.port, timeout_s=60) as wire:
        store(wire, "m0", product_and_sum("TFLITE").blob, "TFLITE")
        the_host(engine)
        one = taken_by_hosts(engine)
        for key in SHARED[1:]:
            store(wire, key, product_and_sum("TFLITE").blob, "TFLITE")
        the_host(engine)

        assert [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED)
        assert taken_by_hosts(engine) <= 1.5 * one
        store(wire, "own", product_and_sum("TFLITE").blob, "TFLITE", "ISOLATE")
        assert len(hosts_of(engine)) == 2
        assert ask_product(wire, "own") == 6


def taken_by_hosts(engine: Server) -> int:
    """Return the bytes that hosts and what they are forked from take together."""
    return sum(process.memory_full_info().pss for process in parents_of(engine) + hosts_of(engine))


def test_with_one_for_each_model_none_share(new_engine: Callable[..., Server]) -> None:
    pytest.importorskip("ai_edge_litert")
    engine = new_engine("--hosts-per", "model")
    with Wire(engine.port, timeout_s=60) as wire:
        for key in ("a", "b"):
            store(wire, key, product_and_sum("TFLITE").blob, "TFLITE")
            assert ask_product(wire, key) == 6
        assert len(hosts_of(engine)) == 2


def test_models_and_clients_at_the_same_time(serving: Server, wire: Wire) -> None:
    """Each answer is that of the model that was asked."""
    host = shared_by(serving, wire, SHARED)
    wrong: list[object] = []

    def ask(key: str) -> None:
        with Wire(serving.port, timeout_s=60) as client:
            wrong.extend(reply for reply in (ask_product(client, key) for _ in range(50)) if reply != 6)

    clients = [threading.Thread(target=ask, args=(key,)) for key in SHARED for _ in range(2)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert not wrong
    assert hosts_of(serving) == [host]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_nobody_notices_the_end_of_an_idle_process(serving: Server, wire: Wire, number: int) -> None:
    host = shared_by(serving, wire, SHARED)
    assert ask_product(wire, "m0") == 6  # once in the event loop, perhaps

    end_host(host, number)

    assert [ask_product(wire, key) for key in SHARED for _ in range(3)] == [6] * 30
    assert the_host(serving) != host
    assert f"a process that 10 TORCH models share ended by signal {number} " in serving.log.read_text()


def test_a_run_over_its_limit_ends_a_shared_process_once(serving: Server, wire: Wire) -> None:
    shared = shared_by(serving, wire, SHARED)
    store(wire, "loop", torch_loop())
    the_host(serving)

    send_run(wire, "loop", 1)
    assert "model-execution-timeout" in str(decode(wire.receive()))
    assert not is_running(shared.pid)
    assert [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED)
    shared = the_host(serving)
    send_run(wire, "loop", 1)
    assert "model-execution-timeout" in str(decode(wire.receive()))

    assert is_running(shared.pid)
    send_run(wire, "loop", -1)
    assert decode(wire.receive()) == b"OK"
    assert len(hosts_of(serving)) == 2


def test_what_runs_beside_a_run_over_its_limit_is_repeated(serving: Server, wire: Wire) -> None:
    """Here for as long as models are found that take down a process."""
    shared_by(serving, wire, SHARED)
    is_over = threading.Event()
    replies: list[object] = []

    def ask(key: str) -> None:
        with Wire(serving.port, timeout_s=60) as client:
            while not is_over.is_set():
                replies.append(ask_product(client, key))

    clients = [threading.Thread(target=ask, args=(key,)) for key in SHARED[:4]]
    for client in clients:
        client.start()
    for number in range(3):
        store(wire, f"loop{number}", torch_loop())
        send_run(wire, f"loop{number}", 1)
        assert "model-execution-timeout" in str(decode(wire.receive()))
    is_over.set()
    for client in clients:
        client.join()

    assert len(replies) > 100
    assert set(replies) == {6}


def test_runs_that_a_crash_interrupts_are_repeated_in_processes_of_their_own(patient: Server) -> None:
    with ExitStack() as stack:
        wire, *clients = [stack.enter_context(Wire(patient.port, timeout_s=60)) for _ in range(3)]
        shared = shared_by(patient, wire, SHARED)
        for number, client in enumerate(clients):
            store(wire, f"long{number}", torch_countdown())
            send_run(client, f"long{number}", 400_000)
        wait_until_computing(shared, runs=2)

        end_host(shared)

        assert [decode(client.receive()) for client in clients] == [b"OK", b"OK"]
        assert [wire.ask("AI.TENSORGET", f"ylong{number}", "VALUES") for number in range(2)] == [[b"-1"], [b"-1"]]
        assert [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED)
        assert len(hosts_of(patient)) == 3


def test_a_run_that_needs_too_much_memory_fails_alone(serving: Server, wire: Wire) -> None:
    shared = shared_by(serving, wire, SHARED)
    store(wire, "eater", torch_eater())

    send_run(wire, "eater", 4 * HOST_MEMORY // 2**20)
    assert SHORT_OF_MEMORY in str(decode(wire.receive()))

    assert the_host(serving) == shared
    assert [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED)


def test_an_error_in_a_process_that_was_short_of_memory_may_be_others_doing(serving: Server, wire: Wire) -> None:
    shared = shared_by(serving, wire, SHARED)
    store(wire, "eater", torch_eater())
    send_run(wire, "eater", 1.5 * HOST_MEMORY / 2**20)
    assert decode(wire.receive()) == b"OK"  # more than a process of its own would have had

    send_run(wire, "eater", 4 * HOST_MEMORY // 2**20)
    assert SHORT_OF_MEMORY in str(decode(wire.receive()))

    assert is_running(shared.pid)
    wait_until(lambda: len(hosts_of(serving)) == 2)
    send_run(wire, "eater", 1.5 * HOST_MEMORY / 2**20)
    assert SHORT_OF_MEMORY in str(decode(wire.receive()))
    assert [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED)


def test_a_model_whose_own_process_keeps_dying_has_failed(patient: Server) -> None:
    with Wire(patient.port, timeout_s=60) as wire:
        shared = shared_by(patient, wire, SHARED)
        store(wire, "long", torch_countdown())
        send_run(wire, "long", 400_000)
        wait_until_computing(shared)
        end_host(shared)
        assert decode(wire.receive()) == b"OK"
        replies = []
        while "has failed" not in str(replies[-1:]) and len(replies) < 100:
            for host in hosts_of(patient):
                end_host(host)
            send_run(wire, "long", 1)
            replies.append(decode(wire.receive()))

        assert "ERR the model's process ended by signal 11" in str(replies[0])
        assert "the model has failed" in str(replies[-1])
        assert [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED)


def test_there_are_as_many_processes_as_seats_need(serving: Server, wire: Wire) -> None:
    keys = [f"m{number}" for number in range(seats._MOST_SEATS + 1)]
    for key in keys:
        store(wire, key, product_and_sum("TORCH").blob)
    wait_until(lambda: len(hosts_of(serving)) == 2)

    assert [ask_product(wire, key) for key in keys] == [6] * len(keys)
    for key in keys:
        assert wire.ask("AI.MODELDEL", key) == b"OK"
    wait_until(lambda: not hosts_of(serving))


def test_a_large_model_has_a_process_of_its_own(serving: Server, wire: Wire) -> None:
    import torch

    class Large(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.zeros(seats.MOST_BLOB // 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.weights[0]

    shared = shared_by(serving, wire, SHARED)
    store(wire, "large", torchscript(Large()))
    send_run(wire, "large", 1)

    assert decode(wire.receive()) == b"OK"
    assert len(hosts_of(serving)) == 2
    assert is_running(shared.pid)


def test_the_process_that_all_are_forked_from_may_end(serving: Server, wire: Wire) -> None:
    shared_by(serving, wire, SHARED)
    (parent,) = parents_of(serving)

    parent.kill()
    wait_until(lambda: parent not in parents_of(serving) and not hosts_of(serving))

    # Importing the framework may take longer than a run may.
    wait_until(lambda: [ask_product(wire, key) for key in SHARED] == [6] * len(SHARED))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_engine(new_engine: Callable[..., Server], number: signal.Signals) -> None:
    engine = new_engine("--hosts-per", "backend", "--shutdown-timeout", "5")
    with Wire(engine.port, timeout_s=60) as wire:
        host = shared_by(engine, wire, ["a", "b"])
        store(wire, "loop", torch_loop())
        send_run(wire, "loop", 1)
        wait_until_computing(host)
        processes = [process.pid for process in parents_of(engine) + hosts_of(engine)]

        engine.process.send_signal(number)

        engine.process.wait(30)
        wait_until(lambda: not any(map(is_running, processes)))


def test_shared_processes_end_with_their_last_model_and_so_does_what_they_are_forked_from(
    new_engine: Callable[..., Server],
) -> None:
    engine = new_engine("--hosts-per", "backend", "--host-idle", "1")
    with Wire(engine.port, timeout_s=60) as wire:
        shared_by(engine, wire, ["a", "b"])

        assert [wire.ask("AI.MODELDEL", key) for key in ("a", "b")] == [b"OK", b"OK"]

        wait_until(lambda: not hosts_of(engine))
        wait_until(lambda: not parents_of(engine))
        store(wire, "a", product_and_sum("TORCH").blob)
        assert ask_product(wire, "a") == 6


def test_a_shared_process_that_computes_for_nobody_is_ended(serving: Server, wire: Wire) -> None:
    """Whose doing it is can't be told, so all models have processes of their own from then on."""
    shared = shared_by(serving, wire, ["a", "b"])
    store(wire, "restless", torch_restless())
    send_run(wire, "restless", 1)
    assert decode(wire.receive()) == b"OK"

    wait_until(lambda: not is_running(shared.pid))

    assert [ask_product(wire, key) for key in ("a", "b")] == [6, 6]
    send_run(wire, "restless", -1)
    assert decode(wire.receive()) == b"OK"
    wait_until(lambda: len(hosts_of(serving)) == 3)
