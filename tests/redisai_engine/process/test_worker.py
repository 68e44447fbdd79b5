"""One worker as its parent sees it: whatever the process does, it is watched and its end is told."""

from __future__ import annotations

import asyncio
import sys

import pytest

from redisai_engine.config import Settings
from redisai_engine.process.output import WorkerOutput
from redisai_engine.process.peers import Hub
from redisai_engine.process.worker import Deaths, Worker

PREAMBLE = """
import json, os, signal, socket, struct, sys
link = socket.socket(fileno=json.loads(os.environ["REDISAI_ENGINE_WORKER"])["link"])
def send(data):
    link.sendall(struct.pack(">I", len(data)) + data)
"""


async def end_of(program: str, timeout_ms: int = 500) -> str:
    """Run a program as a worker, and return how its parent says that it ended."""
    output = WorkerOutput()
    settings = Settings(worker_timeout=timeout_ms)
    worker = await Worker.start(1, settings, Hub(), output, program=(sys.executable, "-c", PREAMBLE + program))
    return (await asyncio.wait_for(worker.ended(), 60)).how


class TestEnd:
    """How a process ended is told in words."""

    @pytest.mark.parametrize(
        ("program", "end"),
        [
            ("sys.exit(7)", "exited with code 7"),
            ("os.abort()", "was ended by SIGABRT"),
            ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ],
    )
    def test_by_itself(self, program: str, end: str):
        assert asyncio.run(end_of(program)) == end

    @pytest.mark.parametrize(
        "sent",
        [
            b"\0\0\0\4nono",
            b"\0\0\0\3123",
            b"\0\0\0\2\xff\xfe",
            b"\0\1\0\0" + b"[" * 65536,
            b'\0\0\0\x09{"answer"',
        ],
        ids=["no JSON", "no object", "no UTF-8", "nested", "cut"],
    )
    def test_by_a_broken_link(self, sent: bytes):
        """Whatever the bytes are, only this worker's link is given up."""
        end = asyncio.run(end_of(f"link.sendall({sent!r})\nlink.shutdown(socket.SHUT_WR)\nsignal.pause()"))

        assert end.startswith("was killed because its link to the parent is broken: it ")

    def test_by_a_closed_link(self):
        end = asyncio.run(end_of("link.close()\nsignal.pause()"))

        assert end == "was killed because it closed its link to the parent"

    def test_by_silence(self):
        end = asyncio.run(end_of("send(b'{\"ready\": true}')\nsignal.pause()"))

        assert end == "was killed because its event loop hasn't run for 0.5 s"

    def test_by_a_message_that_never_ends(self):
        """The length says 4 GB: nothing is allocated for it, and the silence ends it."""
        end = asyncio.run(end_of("send(b'{\"ready\": true}')\nlink.sendall(b'\\xff' * 100)\nsignal.pause()"))

        assert end == "was killed because its event loop hasn't run for 0.5 s"


class TestDeaths:
    """The first death costs almost nothing, and many in a minute no processor time."""

    def test_pauses_grow_and_end_in_a_long_one(self):
        deaths = Deaths()

        assert [deaths.pause(float(second)) for second in range(6)] == [0.1, 0.2, 0.4, 0.8, 30.0, 30.0]

    def test_a_minute_without_a_death_is_a_new_beginning(self):
        deaths = Deaths()
        for second in range(5):
            deaths.pause(float(second))
        assert deaths.are_many

        assert deaths.pause(65.0) == 0.1
        assert not deaths.are_many
