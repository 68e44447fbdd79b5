"""What processes take of the memory: what several have in common counts once, in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redisai_engine import weight
from support.waiting import wait_until

CHILDREN = 4
BYTES = 64 * 2**20
TOLERATED = 32 * 2**20  # what the interpreters take themselves

FAMILY = f"""
import os, signal, sys
common = os.urandom({BYTES})
for _ in range({CHILDREN}):
    if not os.fork():
        signal.pause()
print("ready", flush=True)
sys.stdin.read()
os.killpg(0, 9)
"""


@pytest.fixture(scope="module")
def family() -> Iterator[int]:
    """A process and some that it has forked, which have 64 MiB in common."""
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


def test_what_a_family_has_in_common_counts_once(family: int) -> None:
    assert BYTES < weight.family_bytes(family) < BYTES + TOLERATED
    assert weight.share_bytes(family) < BYTES / CHILDREN + TOLERATED, "its part alone"


def test_a_process_that_may_not_be_looked_at_counts_in_full(family: int) -> None:
    if os.getuid():
        pytest.skip("only root can ask as another user")
    program = f"{Path(weight.__file__).read_text()}\nos.setuid(65534)\nprint(share_bytes({family}))"

    told = subprocess.run([sys.executable, "-Ic", program], capture_output=True, text=True, check=True)

    assert BYTES < int(told.stdout) < BYTES + TOLERATED


def test_a_process_that_has_ended_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()

    wait_until(lambda: weight.family_bytes(process.pid) == 0)
    assert weight.private_bytes(process.pid) == 0
