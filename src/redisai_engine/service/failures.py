"""
Models that could not be loaded for a run, so that they aren't read from Redis and tried again with every prediction.

Invariant: what can be loaded again is tried within seconds, or, where the error itself knows, at once.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic

from redisai_engine.errors import ModelLoadError
from redisai_engine.service.cache import Place

_AGAIN_SECONDS = 5.0  # from a failure to the next try, if somebody asks
_MOST = 1000  # that are remembered


class Failures:
    """The failures of one process, by key and version. It is used in the event loop's thread only."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Place, str], tuple[float, ModelLoadError]] = OrderedDict()

    def add(self, place: Place, id_: str, error: ModelLoadError) -> None:
        """Remember that a version could not be loaded."""
        self._known[(place, id_)] = monotonic() + _AGAIN_SECONDS, error
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def check(self, place: Place, id_: str) -> None:
        """Raise the error with which a version could not be loaded, as long as it would fail again. It is quick."""
        until, error = self._known.get((place, id_), (0.0, None))
        if error is None:
            return
        if error.again is not None:
            error.again()
        elif monotonic() < until:
            raise ModelLoadError(error.wire)
        del self._known[(place, id_)]
