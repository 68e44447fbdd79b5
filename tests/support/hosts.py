"""Models for hosts, and the processes that an engine has started for them."""

from __future__ import annotations

from functools import cache

import psutil

from support.servers import Server
from support.tiny_models import torchscript


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
    children = psutil.Process(engine.process.pid).children()
    return [child for child in children if any("hosts.forking" in word for word in child.cmdline())]


def hosts_of(engine: Server) -> list[psutil.Process]:
    """Return the engine's hosts."""
    return [host for parent in parents_of(engine) for host in parent.children()]
