"""
The stream that a connection has begun.

Invariant: it is ended when its client has all of it, ends it, begins another one, becomes another user, doesn't go on
for `--stream-timeout`, or leaves. Then no worker is occupied by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redisai_engine.backends.base import ModelStream
from redisai_engine.errors import CommandError, EngineError
from redisai_engine.execution.job import Job, RunnableModel, Share
from redisai_engine.protocol import texts


class OpenStream:
    """
    A stream of the model under `key`. Its first item is a run of `first`, which waits among the model's own runs for a
    worker; the others are runs of `following`, which wait for nothing.

    It is ended if its client doesn't ask for an item for `patience_ms`. `submit` takes a job for this turn.
    """

    def __init__(
        self,
        key: bytes,
        model: RunnableModel,
        stream: ModelStream,
        *,
        loop: asyncio.AbstractEventLoop,
        submit: Callable[[Job], None],
        patience_ms: int,
    ) -> None:
        self.key = key
        self.failure: EngineError | None = None
        self.first = _runnable(model, stream, model.share)
        self.following = _runnable(model, stream, Share(stream.at_once))
        self._stream = stream
        self._loop = loop
        self._submit = submit
        self._patience_ms = patience_ms
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def is_over(self) -> bool:
        return self._stream.is_over

    def begin_run(self) -> None:
        """Wait for the client no more: it has asked for an item."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end_run(self) -> None:
        """Wait for the client, for as long as it may take."""
        if not self._is_closed and not self.is_over:
            self._timer = self._loop.call_later(self._patience_ms / 1000, self._end_waiting)

    def fail(self, error: EngineError) -> None:
        """End the stream with an error, which is also the answer to what the client asks of it later."""
        self.failure = error
        self.close()

    def close(self) -> None:
        self.begin_run()
        self._is_closed = True
        if self._stream.close():
            self._submit(Job(self.following, [], None, _ignore))

    def _end_waiting(self) -> None:
        self.fail(CommandError(texts.STREAM_UNASKED % self._patience_ms))


def _runnable(model: RunnableModel, stream: ModelStream, share: Share) -> RunnableModel:
    return RunnableModel(
        stream, backend_name=model.backend_name, statistics=model.statistics, figures=model.figures, share=share
    )


def _ignore(outcome: object) -> None:
    """Do nothing with the outcome of a stream's end: nobody waits for it."""
