"""
What a slow model costs its neighbours: four clients keep a model busy whose runs take half a second.

Meanwhile another client uses a model that runs in the event loop, or one whose runs need a thread. Its 99th percentile
may be at most 5 ms above that of its own runs without the neighbour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from bench import load, models, servers
from bench.drive import our_generator
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.storing import deploy
from bench.wire import Exchange, redis_exchange

SLOW_S = 0.5
SLOW_CONNECTIONS = 4


def run(plan: Plan) -> Series:
    slow = models.text()
    slow_request = redis_exchange(slow.dag(_rows_for(slow, SLOW_S)))
    with servers.engine(plan.folder) as engine:
        deploy(engine.port, slow)
        subjects: dict[str, Callable[[], Figures]] = {}
        for model, rows in ((models.tiny(), 1), (models.middle(), 16)):
            deploy(engine.port, model)
            words = [word if isinstance(word, bytes) else str(word).encode() for word in model.dag(rows)]
            alone = partial(our_generator, engine.port, words, 1, plan.seconds)
            subjects[f"{model.name}, alone"] = alone
            subjects[f"{model.name}, beside the slow one"] = partial(_beside, engine.port, slow_request, alone)
        return plan.in_turns(subjects)


def _rows_for(model: Model, seconds: float) -> int:
    """Return how many rows a run of about that many seconds has."""
    session = model.session()
    session.run(None, {"x": model.rows()})
    before = time.perf_counter()
    session.run(None, {"x": model.rows(4)})
    return max(1, round(4 * seconds / (time.perf_counter() - before)))


def _beside(port: int, slow: Exchange, measure: Callable[[], Figures]) -> Figures:
    """Measure while other connections keep a model busy, from before the first request until after the last."""
    until = threading.Event()
    busy = threading.Thread(target=_keep_busy, args=(port, slow, until))
    load.first_reply(port, slow)
    busy.start()
    time.sleep(SLOW_S)
    try:
        return measure()
    finally:
        until.set()
        busy.join()


def _keep_busy(port: int, slow: Exchange, until: threading.Event) -> None:
    while not until.is_set():
        load.run(port, slow, SLOW_CONNECTIONS, 4 * SLOW_S)
