"""
What is counted for metrics while requests run: per version of a deployment, histograms and errors that only grow.

AI.INFO has counts of its own (`statistics.py`), which a client may set to zero.

Invariant: figures change only in the event loop's thread, so they need no lock. Nothing here is read on the way of a
request, and none of it is ever reset.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from time import time
from typing import Final

from redisai_engine.errors import (
    CommandError,
    DeploymentStuck,
    EngineClosing,
    EngineError,
    HostOutOfMemory,
    ModelLoadError,
    ModelRunError,
    QueueFull,
    RunGivenUp,
    UpstreamError,
)

Place = tuple[int, bytes]  # a database and a key in it

#: Where requests come from; the last ones are the engine's own, which tries models out. A front is known by its number.
FRONTS = ("resp", "http", "engine")
RESP: Final = 0
HTTP: Final = 1
OWN: Final = 2

#: The upper bounds of the buckets of all durations, in seconds; a last bucket has what takes longer.
_SHORTEST: Final = 50e-6
_DURATIONS: Final = 18
DURATIONS: tuple[float, ...] = tuple([_SHORTEST * 2.0**number for number in range(_DURATIONS)])

#: The upper bounds of the buckets of batch rows, and one for more.
_SIZES: Final = 15
SIZES: tuple[int, ...] = tuple([2**number for number in range(_SIZES)])

#: Versions whose figures are kept, loaded or not, and of these those of one deployment.
_MOST_VERSIONS = 4096
_MOST_OF_ONE = 8

_LAST_ERRORS = 10  # that are kept with their texts
_LONGEST_TEXT = 300  # characters of one

#: What an error is called in metrics: the first class that it is an instance of.
KINDS: tuple[tuple[type[EngineError], str], ...] = (
    (QueueFull, "queue_full"),
    (EngineClosing, "closing"),
    (DeploymentStuck, "stuck"),
    (RunGivenUp, "given_up"),
    (HostOutOfMemory, "out_of_memory"),
    (ModelRunError, "run"),
    (ModelLoadError, "load"),
    (UpstreamError, "redis"),
    (CommandError, "command"),
)
TIMEOUT = "timeout"
OTHER = "other"


def kind_of(error: object) -> str:
    """Return what an error is called in metrics. What is no EngineError is a TIMEOUT that has passed."""
    if not isinstance(error, EngineError):
        return TIMEOUT
    return next((name for kind, name in KINDS if isinstance(error, kind)), OTHER)


def bucket(seconds: float) -> int:
    """Return the number of a duration's bucket."""
    number = 0
    limit = _SHORTEST
    while seconds > limit and number < _DURATIONS:  # compiled, this takes less time than a call of bisect
        limit += limit
        number += 1
    return number


def size_bucket(rows: int) -> int:
    """Return the number of the bucket of a batch with so many rows."""
    number = 0
    limit = 1
    while rows > limit and number < _SIZES:
        limit += limit
        number += 1
    return number


class RequestFigures:
    """Requests of one front to one version: of those that succeeded how long they took, all others by their errors."""

    def __init__(self) -> None:
        self.latency = [0] * (_DURATIONS + 1)
        self.latency_seconds = 0.0
        self.queue = [0] * (_DURATIONS + 1)
        self.queue_seconds = 0.0
        self.errors: dict[str, int] = {}
        self.failed_seconds = 0.0
        #: The latest, each with the time of day, its kind and its text.
        self.last_errors: deque[tuple[float, str, str]] = deque(maxlen=_LAST_ERRORS)

    def succeeded(self, seconds: float, queued: float) -> None:
        """Count a request that took so long, and was queued for so long before its run began."""
        self.latency[bucket(seconds)] += 1
        self.latency_seconds += seconds
        self.queue[bucket(queued)] += 1
        self.queue_seconds += queued

    def failed(self, error: object, seconds: float) -> None:
        """Count a request that took so long and got this error, or TIMED_OUT."""
        kind = kind_of(error)
        self.failed_seconds += seconds
        self.errors[kind] = self.errors.get(kind, 0) + 1
        text = error.wire if isinstance(error, EngineError) else "the request waited longer than its TIMEOUT"
        self.last_errors.append((time(), kind, text[:_LONGEST_TEXT]))


class Figures:
    """One version of a deployment. `version` is its number in the model registry, once that is known."""

    def __init__(self) -> None:
        self.backend = ""
        self.device = ""
        self.version = ""
        self.run = [0] * (_DURATIONS + 1)
        self.run_seconds = 0.0
        self.rows = [0] * (_SIZES + 1)
        self.rows_total = 0
        self.fronts: list[RequestFigures] = [RequestFigures() for _ in FRONTS]

    def ran(self, seconds: float, rows: int) -> None:
        """Count a run of so many rows, which has succeeded for one request at least."""
        self.run[bucket(seconds)] += 1
        self.run_seconds += seconds
        self.rows[size_bucket(rows)] += 1
        self.rows_total += rows


class Ledger:
    """
    The figures of all versions, by place and id, in the order in which they came.

    They stay when a version leaves memory, and end with the deployment (`forget`). The oldest end when there are too
    many. `errors` counts commands that were answered with an error, by kind, whether or not a model is concerned.
    """

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self._versions: OrderedDict[tuple[Place, bytes], Figures] = OrderedDict()

    def of(self, place: Place, id_: bytes, backend: str, device: str) -> Figures:
        """Return the figures of a version, from now on counted under this backend and device."""
        figures = self._versions.get((place, id_))
        if figures is None:
            figures = self._versions[place, id_] = Figures()
            figures.backend, figures.device = backend, device
            self._tidy(place)
        return figures

    def failed(self, error: EngineError) -> None:
        """Count a command that was answered with this error."""
        kind = kind_of(error)
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def versions(self) -> list[tuple[Place, bytes, Figures]]:
        """Return all figures with their place and id."""
        return [(place, id_, figures) for (place, id_), figures in list(self._versions.items())]

    def forget(self, place: Place) -> None:
        """Forget a deployment: it has been deleted."""
        for version in [version for version in self._versions if version[0] == place]:
            del self._versions[version]

    def _tidy(self, place: Place) -> None:
        """Make room. Of one deployment, versions with the same number are added up first, so that no count shrinks."""
        own = [version for version in self._versions if version[0] == place]
        if len(own) > _MOST_OF_ONE:
            oldest, next_one = self._versions.pop(own[0]), self._versions[own[1]]
            if _labels(oldest) == _labels(next_one):
                _add(oldest, next_one)
        if len(self._versions) > _MOST_VERSIONS:
            self._versions.popitem(last=False)


def _labels(figures: Figures) -> tuple[str, str, str]:
    return figures.version, figures.backend, figures.device


def _add(old: Figures, to: Figures) -> None:
    to.run = _sums(to.run, old.run)
    to.run_seconds += old.run_seconds
    to.rows = _sums(to.rows, old.rows)
    to.rows_total += old.rows_total
    for mine, theirs in zip(to.fronts, old.fronts, strict=True):
        mine.latency = _sums(mine.latency, theirs.latency)
        mine.latency_seconds += theirs.latency_seconds
        mine.queue = _sums(mine.queue, theirs.queue)
        mine.queue_seconds += theirs.queue_seconds
        mine.failed_seconds += theirs.failed_seconds
        for kind, count in theirs.errors.items():
            mine.errors[kind] = mine.errors.get(kind, 0) + count


def _sums(first: list[int], second: list[int]) -> list[int]:
    return [one + other for one, other in zip(first, second, strict=True)]
