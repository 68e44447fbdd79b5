"""A model that is deleted or replaced has no process any more, whatever its clients have done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import pytest

from support.hosts import hosts_of
from support.servers import Server, start_engine
from support.tiny_models import product_and_sum
from support.torch_scripts import RUN_MODEL, needs_torch
from support.waiting import is_running, wait_until
from support.wire import Wire

pytestmark = [needs_torch, pytest.mark.slow]


def predict(wire: Wire, *shape: int, dag: str = "AI.DAGEXECUTE_RO") -> object:
    """Run `m` in a DAG on two tensors. It fails for the shape 2, 3."""
    blob = bytes(4 * prod(shape))
    words = (
        "AI.TENSORSET",
        "a",
        "FLOAT",
        *shape,
        "BLOB",
        blob,
        "|>",
        "AI.TENSORSET",
        "b",
        "FLOAT",
        1,
        2,
        "BLOB",
        bytes(8),
    )
    execute = ("|>", "AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "b", "OUTPUTS", 2, "p", "s")
    return wire.ask(dag, "ROUTING", "m", "|>", *words, *execute, "|>", "AI.TENSORGET", "p", "META", "BLOB")


def run(wire: Wire) -> object:
    wire.ask("AI.TENSORSET", "a", "FLOAT", 1, 1, "VALUES", 2)
    return wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 2, "p", "s")


def fail(wire: Wire) -> object:
    """Run `m` on tensors that it can't multiply."""
    wire.ask("AI.TENSORSET", "a", "FLOAT", 2, 3, "VALUES", *range(6))
    wire.ask("AI.TENSORSET", "b", "FLOAT", 1, 2, "VALUES", *range(2))
    return wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "b", "OUTPUTS", 2, "p", "s")


def call(wire: Wire, count: int) -> object:
    """Have a script run `m`; the script fails unless it wants two outputs."""
    store_script = ("AI.SCRIPTSTORE", "script", "CPU", "ENTRY_POINTS", 1, "run_model", "SOURCE", RUN_MODEL)
    assert wire.ask(*store_script) == b"OK"
    wire.ask("AI.TENSORSET", "a", "FLOAT", 1, 1, "VALUES", 2)
    execute = ("AI.SCRIPTEXECUTE", "script", "run_model", "KEYS", 1, "m", "INPUTS", 2, "a", "a", "ARGS", 1, count)
    return wire.ask(*execute, "OUTPUTS", 2, "p", "s")


ONE_TO_ONE = ("INPUTS", 1, "a", "OUTPUTS", 1, "p")
#: What a client may have done with the model `m`, by whether its last run succeeds.
USES: dict[str, Callable[[Wire], object]] = {
    "nothing": lambda wire: None,
    "a run": run,
    "a run that fails": fail,
    "fast runs": lambda wire: [predict(wire, 1, 2) for _ in range(20)],
    "fast runs that fail": lambda wire: [predict(wire, 2, 3) for _ in range(20)],
    "a run in a DAG": lambda wire: predict(wire, 1, 2, dag="AI.DAGEXECUTE"),
    "a run in a DAG that fails": lambda wire: predict(wire, 2, 3, dag="AI.DAGEXECUTE"),
    "a run in a script": lambda wire: call(wire, 2),
    "a run in a script that fails": lambda wire: call(wire, 1),
    "a run with a wrong number of inputs": lambda wire: wire.ask(
        "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "p"
    ),
}
CHANGES: dict[str, tuple[str | bytes, ...]] = {
    "deleted": ("AI.MODELDEL", "m"),
    "deleted by Redis' command": ("DEL", "m"),
    "replaced": ("AI.MODELSTORE", "m", "TORCH", "CPU"),
    "overwritten": ("SET", "m", "text"),
    "expired": ("PEXPIRE", "m", "1"),
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = start_engine(tmp_path_factory.mktemp("gone"), "--model-execution-timeout", "60000")
    yield engine
    engine.stop()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES)
def test_a_model_that_is_gone_has_no_process(serving: Server, use: str, change: str) -> None:
    """Nothing but PING is asked meanwhile, neither by who used the model nor by who changed it."""
    blob = product_and_sum("TORCH").blob
    with Wire(serving.port) as user, Wire(serving.port) as changer:
        changer.ask("DEL", "m")
        before = hosts_of(serving)
        assert changer.ask("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", blob) == b"OK"
        (host,) = [host for host in hosts_of(serving) if host not in before]
        reply = USES[use](user)
        assert ("ReplyError" in repr(reply)) == ("fail" in use or "wrong" in use), reply

        changer.ask(*CHANGES[change], *(("BLOB", blob) if change == "replaced" else ()))

        wait_until(lambda: user.ask("PING") and not is_running(host.pid))
