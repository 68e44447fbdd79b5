"""What the process from which hosts are forked makes of events that come together."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# A host that ends by itself while the engine cuts its lifeline: both are told by one call of `select`, in any order.
PROGRAM = """
import os, selectors, signal, socket, sys
from redisai_engine.execution.hosts.forking import Forking

forking = Forking(socket.socketpair()[0])
engine, line = socket.socketpair()
host = os.fork()
if not host:
    os._exit(3)
os.waitid(os.P_PID, host, os.WEXITED | os.WNOWAIT)
forking.adopt(host, line)
for event in sys.argv[1:]:
    {"ends": forking.report_ends, "cut": lambda: forking.kill(host)}[event]()
print(engine.recv(100))
"""


@pytest.mark.parametrize("events", [["ends", "cut"], ["cut", "ends"]], ids=["ends first", "cut first"])
def test_a_host_ends_while_its_lifeline_is_cut(events: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *events], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("b'{\"status\": 3}'\n", "")


def test_a_request_whose_descriptors_did_not_arrive_ends_nothing(tmp_path) -> None:
    program = """
import json, os, resource, socket, threading
from redisai_engine.execution.hosts.forking import Forking

engine, control = socket.socketpair()
forking = Forking(control)
lifelines = [socket.socketpair() for _ in range(2)]
blob = os.open(os.devnull, os.O_RDONLY)
for own, other in lifelines:
    socket.send_fds(engine, [json.dumps({"memory": 0, "gpu": False}).encode()], [other.fileno(), other.fileno(), blob])
    other.close()
free = os.dup(blob)
os.close(free)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))  # room for one of three
print(forking.fork_one())
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
print(lifelines[0][0].recv(100), os.dup(blob) == free)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("True\nb'' True\n", "")


# Frees every second block, so that glibc can't join them, and tells how many of as many new ones lie among the others.
HOLES = """
import ctypes, sys
from redisai_engine.execution.hosts.forking import take_holes

libc = ctypes.PyDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
size, count = int(sys.argv[1]), 100
blocks = [libc.malloc(size) for _ in range(2 * count)]
for block in blocks[::2]:
    libc.free(block)
if sys.argv[2] == "taken":
    take_holes()
print(sum(libc.malloc(size) < max(blocks) for _ in range(count)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library isn't glibc")
@pytest.mark.parametrize("size", [24, 1000, 2100, 40_000])
def test_new_blocks_lie_behind_all_others(size: int) -> None:
    def holes_used(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", HOLES, str(size), how], check=True, capture_output=True, text=True, timeout=60
        )
        return int(done.stdout)

    assert holes_used("left") > 50
    assert holes_used("taken") == 0
