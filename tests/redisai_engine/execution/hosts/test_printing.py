"""What models and scripts print in processes of their own is in the engine's log, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.servers import Server, start_engine
from support.torch_scripts import entry_point, needs_torch
from support.waiting import wait_until
from support.wire import Wire

pytestmark = [needs_torch, pytest.mark.slow]

#: Prints as many lines as its argument says, each with the bytes that steer a terminal.
SCRIPT = entry_point(
    "talk",
    "for number in range(int(args[0])):",
    '    print("line", number, "\\033[2J")',
    "return tensors",
)


@pytest.fixture(params=[1, 2], ids=["alone", "workers"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """An engine with one process or two."""
    engine = start_engine(tmp_path, "--workers", str(request.param))
    yield engine
    engine.stop()


def talk(wire: Wire, lines: int) -> object:
    return wire.ask("AI.SCRIPTEXECUTE", "s", "talk", "INPUTS", 1, "x", "ARGS", 1, lines, "OUTPUTS", 1, "y")


def in_log(engine: Server, text: str) -> Callable[[], list[str]]:
    """Return a function that returns the lines of the log with this text."""
    return lambda: [line for line in engine.log.read_text().splitlines() if text in line]


def test_what_a_script_prints_is_in_the_log(engine: Server) -> None:
    with Wire(engine.port) as wire:
        wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
        assert wire.ask("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "talk", "SOURCE", SCRIPT) == b"OK"

        assert talk(wire, 2) == b"OK"

        lines = wait_until(lambda: len(found := in_log(engine, "TORCH printed: line ")()) == 2 and found)
        assert [line.partition("TORCH ")[2] for line in lines or []] == [
            "printed: line 0 ?[2J",
            "printed: line 1 ?[2J",
        ]


def test_a_script_that_prints_without_end_neither_waits_nor_fills_the_log(engine: Server) -> None:
    with Wire(engine.port) as wire:
        wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
        wire.ask("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "talk", "SOURCE", SCRIPT)

        assert talk(wire, 50_000) == b"OK"  # more than a pipe holds
        assert "takes longer than" in str(talk(wire, 10**9))

        wait_until(in_log(engine, "lines left out"))
        assert 100 <= len(in_log(engine, "TORCH printed: line ")()) < 500
        assert wire.ask("AI.SCRIPTDEL", "s") == b"OK"
    engine.stop()
    assert not in_log(engine, "exits without it")()
