"""Models for hosts, and the processes that an engine has started for them."""

from __future__ import annotations

import contextlib
from functools import cache

import psutil

from support.servers import Server
from support.tiny_models import torchscript
from support.waiting import is_running


@cache
def torch_loop() -> bytes:
    """Return a TorchScript model that runs forever if its input is positive, and otherwise returns it."""
    import torch

    class Loop(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while bool(x.max() > 0):
                x = x + 1
            return x

    return torchscript(Loop())


def parents_of(engine: Server) -> list[psutil.Process]:
    """Return the processes from which the engine's hosts are forked."""
    return parents_below(engine.process.pid)


def parents_below(pid: int) -> list[psutil.Process]:
    """Return the processes from which the hosts of a process are forked."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any("hosts.forking" in word for word in child.cmdline()):
                found.append(child)
    return found


def hosts_of(engine: Server) -> list[psutil.Process]:
    """Return the engine's hosts that haven't ended."""
    hosts: list[psutil.Process] = []
    for parent in parents_of(engine):
        with contextlib.suppress(psutil.NoSuchProcess):
            hosts += parent.children()
    return [host for host in hosts if is_running(host.pid)]


@cache
def torch_reader(path: str) -> bytes:
    """Return a TorchScript model that returns the first bytes of a file, read where the checks of graphs don't look."""
    import torch

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = path
            self.bytes = torch.zeros(4, dtype=torch.uint8)

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.path, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path = state[0]
            self.training = state[1]
            self.bytes = torch.from_file(state[0], size=4, dtype=torch.uint8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bytes

    return torchscript(Reader())


@cache
def torch_eater() -> bytes:
    """Return a TorchScript model that makes a tensor of as many MiB as its input says, and returns its length."""
    import torch

    class Eater(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(int(x.item()) * 262144).sum()

    return torchscript(Eater())


@cache
def torch_restless() -> bytes:
    """Return a TorchScript model that adds 1. If its input is positive, a loop in another thread goes on."""
    import torch

    class Restless(torch.nn.Module):
        def spin(self, x: torch.Tensor) -> torch.Tensor:
            while bool((x > 0).all()):
                x = x + 1
            return x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool(x.max() > 0):
                left = torch.jit.fork(self.spin, x)
                if bool(x.max() > 1e6):
                    return torch.jit.wait(left)  # type: ignore[no-any-return]
            return x + 1

    return torchscript(Restless())
