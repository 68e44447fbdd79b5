"""
What a process of its own costs a model: time for each run of a small one, and memory for ten beside that for one.

Two engines serve the same models, one of them with `--in-process`. Memory is what the engine's hosts and the processes
that they were forked from take together, shared pages counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from bench import models, natives, servers
from bench.backends import store
from bench.drive import our_generator
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.storing import check

DEPLOYMENTS = 10

#: Where a prediction's model is: in a host, and without one.
PLACES = ("in a host", "in the engine's process")


def run(plan: Plan) -> Series:
    blobs = {backend: natives.make(backend, plan.folder, "small") for backend in natives.MAKERS}
    inside = ("--in-process", ",".join(blobs))
    with servers.engine(plan.folder / "hosts") as hosts, servers.engine(plan.folder / "inside", *inside) as engine:
        subjects: dict[str, Callable[[], Figures]] = {}
        for backend, blob in blobs.items():
            for where, port in zip(PLACES, (hosts.port, engine.port), strict=True):
                subjects[f"{backend}, {where}"] = _prediction(port, backend, blob, plan.seconds)
        series = plan.in_turns(subjects)
    for backend, blob in blobs.items():
        with servers.engine(plan.folder / backend) as engine:
            series |= _memory(engine, backend, blob)
    return series


def _prediction(port: int, backend: str, blob: bytes, seconds: float) -> Callable[[], Figures]:
    """Deploy a model and return what measures predictions over one connection."""
    model = _deploy(port, backend, blob, backend)
    words = [word if isinstance(word, bytes) else str(word).encode() for word in model.dag()]
    return partial(our_generator, port, words, 1, seconds)


def _memory(engine: servers.Running, backend: str, blob: bytes) -> Series:
    found = {}
    for number in range(DEPLOYMENTS):
        _deploy(engine.port, f"{backend}{number}", blob, backend)
        if number in (0, DEPLOYMENTS - 1):
            name = f"{backend}, {number + 1} deployment{'s' * (number > 0)}"
            found[name] = [{"hosts_mb": _hosts_mb(engine.pid)}]
    return found


def _deploy(port: int, name: str, blob: bytes, backend: str) -> Model:
    model = models.small().named(name)
    with redis.Redis(port=port, socket_timeout=120) as client:
        client.execute_command(*store(name, backend, blob))
    check(port, model)
    return model


def _hosts_mb(engine: int) -> float:
    """Return the proportional set size of all Python processes below the engine, in megabytes (10**6 bytes)."""
    found = 0
    for number in servers.descendants(engine):
        if "redis-server" not in Path(f"/proc/{number}/comm").read_text():
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return round(found * 1024 / 1e6, 1)
