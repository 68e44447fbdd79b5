"""SIGTERM and SIGINT end the process within a stated time, whatever runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio, os, re, sys, threading, time
from redisai_engine.process.stopping import Shutdown

parent = os.getppid()  # a loop without end ends with the test

class Endless:
    def __del__(self, sleep=time.sleep):
        sleep(1e6)

async def main():
    with Shutdown(1.0, lambda: print("given up", flush=True)) as stop:
        print("ready", flush=True)
        {}

{}
"""
LOOPS = {"asyncio": "asyncio.run(main())", "uvloop": "import uvloop; uvloop.run(main())"}


def after(number: signal.Signals, body: str, loop: str = "uvloop") -> tuple[str, int, float]:
    """Send a signal to a program that waits. Return what it printed, its exit code and how long it took, in seconds."""
    pytest.importorskip(loop)
    program = PROGRAM.format(body, LOOPS[loop])
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(number)
        out = process.communicate(timeout=60)[0].decode()
        return out, process.returncode, time.monotonic() - started


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_seen(loop: str, number: signal.Signals) -> None:
    out, code, _ = after(number, "await stop.wait(); print(stop.is_set, 0 < stop.seconds_left() < 1)", loop)

    assert (out, code) == ("True True\n", 0)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("while parent == os.getppid(): pass", id="the event loop computes without end"),
        pytest.param("time.sleep(1e6)", id="the event loop waits"),
        pytest.param("await stop.wait(); await asyncio.sleep(1e6)", id="something is awaited without end"),
        pytest.param("await asyncio.to_thread(threading.Event().wait)", id="a thread that nothing stops"),
    ],
)
def test_what_does_not_end_by_itself_is_ended(body: str, loop: str) -> None:
    out, code, seconds = after(signal.SIGTERM, body, loop)

    assert (out, code) == ("given up\n", 1)
    assert seconds < 20


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("await stop.wait(); re.match('(a*)*b', 'a' * 1000)", id="the interpreter is never free"),
        pytest.param("await stop.wait(); sys.last = Endless()", id="the interpreter doesn't end"),
    ],
)
def test_the_kernel_ends_what_no_thread_can_end(body: str) -> None:
    out, code, seconds = after(signal.SIGTERM, body)

    assert (out, code) == ("", -signal.SIGALRM)
    assert seconds < 20
