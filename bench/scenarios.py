"""
The table of scenarios: names, and what measures them. bench/README.md and each module say what a scenario isolates.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import (
    backends,
    batching,
    blobs,
    clients,
    footprint,
    generator,
    hosts,
    http,
    neighbours,
    plugin,
    predictions,
    python_models,
    relay,
    rivals,
    scaling,
    served,
    sizes,
    stored,
    workers,
)
from bench.rounds import Plan, Series

SCENARIOS: dict[str, Callable[[Plan], Series]] = {
    "predictions": predictions.run,
    "clients": clients.run,
    "stored": stored.run,
    "relay": relay.run,
    "workers": workers.run,
    "scaling": scaling.run,
    "batching": batching.run,
    "neighbours": neighbours.run,
    "blobs": blobs.run,
    "plugin": plugin.run,
    "sizes": sizes.run,
    "backends": backends.run,
    "hosts": hosts.run,
    "http": http.run,
    "python-models": python_models.run,
    "footprint": footprint.run,
    "rivals": rivals.run,
    "served": served.run,
    "generator": generator.run,
}
