"""What a host may do: its model reads none of the server's files, writes none, and takes a bounded amount of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redisai_engine.execution.hosts import limits
from redisai_engine.protocol.frames import ReplyError
from support.hosts import torch_eater, torch_reader
from support.servers import Server
from support.torch_scripts import needs_torch
from support.wire import Wire

DEEDS = {
    "read a file": "open(sys.argv[1]).read()",
    "write a file": "open(sys.argv[1], 'w')",
    "make a file": "open(sys.argv[1] + '.new', 'w')",
    "remove a file": "os.remove(sys.argv[1])",
    "list a folder": "os.listdir('/tmp')",
    "read another process' command line": "open(f'/proc/{os.getppid()}/cmdline').read()",
    "open a socket": "socket.socket()",
    "open a socket pair": "socket.socketpair()",
    "start a program": "subprocess.run(['/bin/true'])",
    "fork": "os.fork()",
    "end another process": "os.kill(os.getppid(), 0)",
    "raise its limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 19, 1 << 19))",
}
MAY = {
    "read its packages": "open(np.__file__).read()",
    "start a thread": "threading.Thread(target=int).start()",
    "compute": "np.ones((100, 100)) @ np.ones((100, 100))",
    "write to its channel": "sys.stdout.write('')",
}
#: What CUDA's driver does, and gives up if it can't; and what it doesn't.
GPU_MAY = {
    "make a socket of packets and listen": "listening(socket.SOCK_SEQPACKET, bytes(1) + b'host' + os.urandom(8))",
    "remove a file without a name": "absent(os.unlink, '')",
    "name a thread": "open(f'/proc/self/task/{threading.get_native_id()}/comm', 'w')",
    "list the devices' buses": "os.listdir('/sys/bus')",
}
GPU_MAY_NOT = {
    "make a socket of datagrams": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "make a socket of the network": "socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET)",
    "make a socket as a file": "listening(socket.SOCK_SEQPACKET, sys.argv[1] + '.new')",
    "connect": "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])",
    "accept": "listening(socket.SOCK_SEQPACKET, bytes(1) + os.urandom(8)).accept()",
    "list the devices": "os.listdir('/dev')",
    "write to a device": "open('/dev/kmsg', 'w')",
    "change a setting of the machine": "open('/sys/power/state', 'w')",
}
PROGRAM = """
import os, resource, socket, subprocess, sys, threading
import numpy as np
from redisai_engine.execution.hosts import limits

def listening(kind, name):
    made = socket.socket(socket.AF_UNIX, kind)
    made.settimeout(5)
    made.bind(name)
    made.listen()
    return made

def absent(deed, name):
    try:
        deed(name)
    except FileNotFoundError:
        return
    raise ValueError

missing = limits.restrict(limits.readable_folders(), 1 << 30, gpu={gpu})
if missing:
    os._exit(3)
try:
    {deed}
except (OSError, ValueError):
    os._exit(1)
os._exit(0)
"""


def exit_code(deed: str, file: Path, *, gpu: bool) -> int:
    command = [sys.executable, "-c", PROGRAM.format(deed=deed, gpu=gpu), str(file)]
    return subprocess.run(command, timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).returncode


@pytest.mark.parametrize("deed", [*DEEDS, *MAY])
def test_a_host_may_compute_and_nothing_else(deed: str, tmp_path: Path) -> None:
    check(deed, DEEDS.get(deed) or MAY[deed], tmp_path, gpu=False, may=deed in MAY)


@pytest.mark.parametrize("deed", [*DEEDS, *MAY, *GPU_MAY, *GPU_MAY_NOT])
def test_a_host_of_a_gpu_may_do_what_cuda_does_besides(deed: str, tmp_path: Path) -> None:
    allowed, refused = MAY | GPU_MAY, DEEDS | GPU_MAY_NOT
    check(deed, (allowed | refused)[deed], tmp_path, gpu=True, may=deed in allowed)


def check(deed: str, code: str, folder: Path, *, gpu: bool, may: bool) -> None:
    file = folder / "secret"
    file.write_text("secret")

    found = exit_code(code, file, gpu=gpu)

    if found == 3:
        pytest.skip("this kernel has no Landlock or no filters of system calls")
    assert found == (0 if may else 1), deed
    assert file.read_text() == "secret"
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_the_readable_folders_hold_all_modules_and_none_is_in_another() -> None:
    folders = [Path(folder) for folder in limits.readable_folders()]

    for module in (os, pytest, limits):
        assert any(folder in Path(os.path.realpath(str(module.__file__))).parents for folder in folders)
    assert not [folder for folder in folders if {*folder.parents} & {*folders}]


@needs_torch
@pytest.mark.slow
def test_a_model_reads_no_file_and_takes_no_more_memory_than_allowed(
    new_engine: Callable[..., Server], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"abcd")
    engine = new_engine("--host-memory", str(256 * 2**20))
    with Wire(engine.port) as wire:
        read = wire.ask("AI.MODELSTORE", "reader", "TORCH", "CPU", "BLOB", torch_reader(str(secret)))
        assert wire.ask("AI.MODELSTORE", "eater", "TORCH", "CPU", "BLOB", torch_eater()) == b"OK"

        def run(model: str, value: int) -> object:
            wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", value)
            return wire.ask("AI.MODELEXECUTE", model, "INPUTS", 1, "x", "OUTPUTS", 1, "y")

        much = run("eater", 1024)

        assert isinstance(read, ReplyError)
        assert "unable to open file" in read.text
        assert isinstance(much, ReplyError)
        assert "memory" in much.text
        assert run("eater", 16) == b"OK"
