"""A blob that kills the process that loads or runs it is refused, so that it doesn't kill the next one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from redisai_engine.execution.notes import LOADING, RUNNING, Note
from redisai_engine.execution.quarantine import digest_of
from redisai_engine.process.crashes import Crashes
from support.connection import Connect, Connection
from support.gateway import predict, store_model
from support.servers import Server
from support.tiny_models import onnx_counter
from support.waiting import wait_until

OK = b"+OK\r\n"
A, B = "a" * 64, "b" * 64
SLOW = digest_of("ONNX", onnx_counter())


class TestBlame:
    """Who is blamed for a death."""

    @pytest.mark.parametrize(
        ("notes", "blamed"),
        [
            ([], []),
            ([Note(LOADING, A)], [A]),
            ([Note(RUNNING, A)], [A]),
            ([Note(RUNNING, A), Note(RUNNING, B)], [A, B]),
            ([Note(LOADING, A), Note(RUNNING, B)], [A]),
        ],
        ids=["nothing", "a load", "a run", "all runs", "rather a load than a run"],
    )
    def test_for_a_crash(self, notes: list[Note], blamed: list[str]):
        crashes = Crashes(600)

        assert crashes.died(notes, "was ended by SIGSEGV", certain=True) is bool(blamed)

        assert sorted(crashes.refused) == blamed

    def test_for_a_death_that_may_have_come_from_outside_the_second_time(self):
        crashes = Crashes(600)

        assert not crashes.died([Note(RUNNING, A)], "was ended by SIGKILL", certain=False)
        assert not crashes.died([Note(RUNNING, B)], "was ended by SIGKILL", certain=False)
        assert crashes.refused == {}
        assert crashes.died([Note(RUNNING, A)], "was ended by SIGKILL", certain=False)

        assert list(crashes.refused) == [A]

    def test_by_an_engine_that_refuses_nothing(self):
        crashes = Crashes(0)

        crashes.died([Note(LOADING, A)], "was ended by SIGSEGV", certain=True)

        assert crashes.refused == {}


class TestMemory:
    """Without a parent, the next process learns from the folder what the one before was doing."""

    def died(self, folder: Path) -> None:
        """Leave the folder as a process leaves it that dies while it loads A."""
        program = (
            "import os, pathlib, sys\n"
            "from redisai_engine.process.crashes import Crashes\n"
            "_, notes = Crashes.recalled(pathlib.Path(sys.argv[1]), 600)\n"
            "with notes.noted(b'L', 'a' * 64): os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", program, str(folder)], check=True, timeout=60)

    def test_two_deaths_are_enough(self, tmp_path: Path):
        self.died(tmp_path)
        self.died(tmp_path)
        crashes, _ = Crashes.recalled(tmp_path, 600)

        assert list(crashes.refused) == [A]
        again, notes = Crashes.recalled(tmp_path, 600)
        assert again.refused == crashes.refused
        assert notes.read() == []

    def test_an_orderly_end_is_no_death(self, tmp_path: Path):
        for _ in range(3):
            _, notes = Crashes.recalled(tmp_path, 600)
            with notes.noted(LOADING, A):
                pass
            notes.close()

        assert Crashes.recalled(tmp_path, 600)[0].refused == {}

    @pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"refused": 3}', b'{"refused": {"a": []}}', b"\xff"])
    def test_a_damaged_file_is_as_good_as_none(self, damaged: bytes, tmp_path: Path):
        (tmp_path / "engine.quarantine").write_bytes(damaged)
        (tmp_path / "engine.notes").write_bytes(b"L\xff\xfe" * 500)

        assert Crashes.recalled(tmp_path, 600)[0].refused == {}


def begin_endless_run(wire: Connection) -> None:
    """Have the engine begin a run that doesn't end while the test lasts."""
    wire.send("AI.TENSORSET start FLOAT 1 VALUES 0", f"AI.TENSORSET n INT64 1 VALUES {10**12}")
    assert wire.replies(2) == [OK] * 2
    wire.send("AI.MODELEXECUTE slow INPUTS 2 n start OUTPUTS 1 y")


def short_run(wire: Connection) -> bytes:
    wire.send("AI.TENSORSET start FLOAT 1 VALUES 0", "AI.TENSORSET few INT64 1 VALUES 3")
    wire.replies(2)
    return wire.ask("AI.MODELEXECUTE slow INPUTS 2 few start OUTPUTS 1 y")


def busy_worker(server: Server) -> psutil.Process:
    """Return the worker that begins to compute."""
    workers = [p for p in psutil.Process(server.process.pid).children() if "redisai_engine" in p.cmdline()]
    used = {worker: worker.cpu_times().user for worker in workers}
    return wait_until(
        lambda: next((worker for worker in workers if worker.cpu_times().user > used[worker] + 0.5), None),
        what="a worker that computes",
    )


def crash(process: psutil.Process) -> None:
    """End a process as an invalid access to memory does."""
    process.send_signal(signal.SIGSEGV)
    process.wait(30)


@pytest.mark.slow
class TestEngine:
    """The whole way: from the crash to the refusal in every process."""

    ENDLESS = ("--model-execution-timeout", "0", "--shutdown-timeout", "5")

    def test_a_model_that_crashes_a_worker_is_refused_by_all(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine("--workers", "2", *self.ENDLESS)
        wire = connect(server)
        wire.ask("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
        store_model(wire, "other")
        begin_endless_run(wire)

        crash(busy_worker(server))

        told = f"the model or script with digest {SLOW} is refused for 600 s, because the process that ran it was ended"
        wait_until(lambda: f"{told} by SIGSEGV" in server.log.read_text())
        refusal = rb"-ERR refused for another \d+ s: the process that .* %b was ended by SIGSEGV\r\n" % SLOW.encode()
        wait_until(lambda: re.fullmatch(refusal, short_run(connect(server))))
        clients = [connect(server) for _ in range(8)]  # enough for all workers
        for client in clients:
            assert re.fullmatch(refusal, short_run(client))
            assert re.fullmatch(refusal, client.ask("AI.MODELSTORE", "again", "ONNX", "CPU", "BLOB", onnx_counter()))
            assert b"refused for another" in client.ask("AI.INFO slow")
            assert predict(client, "other", 2, 3) == 5.0
            assert b"refused" not in client.ask("AI.INFO other")
        server.logged("Fatal Python error: Segmentation fault")
        assert server.log.read_text().count("started anew") == 1

    def test_one_that_has_run_before_is_found_out_in_the_end(self, new_engine: Callable[..., Server], connect: Connect):
        """Its later runs aren't noted, but those in the processes that replace the crashed ones are."""
        server = new_engine("--workers", "2", *self.ENDLESS)
        connect(server).ask("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
        for count in range(1, 4):  # at most one more than there are workers
            for wire in [connect(server) for _ in range(8)]:
                assert short_run(wire) == OK
            begin_endless_run(connect(server))
            crash(busy_worker(server))
            wait_until(lambda n=count: server.log.read_text().count("room for") > n + 1, what="a new worker")  # type: ignore[misc]
            if "is refused for 600 s" in server.log.read_text():
                break

        wait_until(lambda: short_run(connect(server)).startswith(b"-ERR refused for another"))

    def test_without_a_parent_the_second_death_counts(
        self, new_engine: Callable[..., Server], connect: Connect, tmp_path: Path
    ):
        folder = ("--data-dir", str(tmp_path / "data"))
        for number in range(2):
            server = new_engine(*folder, *self.ENDLESS)
            wire = connect(server)
            if not number:
                wire.ask("AI.MODELSTORE", "slow", "ONNX", "CPU", "BLOB", onnx_counter())
            begin_endless_run(wire)
            process = psutil.Process(server.process.pid)
            wait_until(lambda p=process: p.cpu_times().user > 0.5)  # type: ignore[misc]
            wait_until(lambda: SLOW.encode() in (tmp_path / "data" / "engine.notes").read_bytes())
            os.kill(server.process.pid, signal.SIGSEGV)
            server.process.wait(30)

        wire = connect(new_engine(*folder, *self.ENDLESS))

        assert short_run(wire).startswith(b"-ERR refused for another")
        assert wire.ask("PING") == b"+PONG\r\n"
