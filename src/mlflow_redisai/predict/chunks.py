"""
Many rows as chunks: how large they are, and several of them on their way at the same time.

Theory of operation. A chunk should be short enough for the server to run several at once and to let others in, and long
enough for what it costs in itself not to matter. How many rows that is depends on the model and on what else the server
does, so it is learned: a `Pace` is kept from one prediction to the next, and changes by how long chunks take. As long
as they grow, and for the last one, the caller's thread sends them one after another. The others are sent by a few
threads, over a connection each, so that all threads and workers of the server have something to do. Sizes double and
halve instead of being exact: a server learns how long a run takes by its shape.

Invariant: chunks are cut when they are sent, so no more than those on their way are copied. After an error or an
interruption nothing more is sent, and no thread is left when `run` returns.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from time import monotonic
from typing import TypeAlias

from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import cut, request_rows, row_count
from redisai_engine.protocol.tensor import Tensor

#: Sends one chunk and returns the fetched tensors.
Send: TypeAlias = Callable[[list[Tensor]], list[Tensor]]

CHUNK_BYTES = 4 * 1024 * 1024  # input per command at most
IN_FLIGHT = 8  # chunks of one prediction on their way, each on its own connection
FEWEST_ROWS = 16
FIRST_ROWS = 128  # of the first chunk, as long as nothing is known
CHUNK_SECONDS = 0.040  # that a chunk should take; a quarter of it is the run itself where a server runs two at once
_LEAP = 16  # how much larger the next chunk may be at most


class Pace:
    """How many rows the chunks of a deployment have: `rows`, and whether the latest one made them more."""

    __slots__ = ("grows", "rows")

    def __init__(self) -> None:
        self.rows = FIRST_ROWS
        self.grows = True

    def took(self, rows: int, seconds: float, most: int) -> None:
        """Learn from a chunk; `most` is how many rows one may have. Those of another size than now tell nothing."""
        if rows != min(self.rows, most):
            return
        found = max(min(rows, FEWEST_ROWS), rows // 2) if seconds > 2 * CHUNK_SECONDS else rows
        limit = min(rows * _LEAP, most)
        while found * 2 <= limit and seconds * found * 2 <= CHUNK_SECONDS * rows:
            found *= 2
        self.grows = found > rows
        self.rows = found


def is_one_chunk(tensors: Sequence[Tensor], mapping: Mapping, rows: int) -> bool:
    """Return whether an input is so small that it is one chunk whatever is known, from which nothing is learned."""
    return (
        rows < FEWEST_ROWS
        and mapping.batch is None
        and mapping.text is None
        and sum([len(tensor.blob) for tensor in tensors]) <= CHUNK_BYTES
    )


class Chunks:
    """
    The chunks of one input, which has rows. `max_rows` is how many of them one may have if the model takes any number;
    None: all.

    Raise InputMismatch if the rows have to be sent apart but can't be.
    """

    def __init__(self, tensors: list[Tensor], mapping: Mapping, max_rows: int | None, pace: Pace) -> None:
        self._left = row_count(tensors, mapping)
        most = request_rows(tensors, mapping, max_rows)
        self._most = self._left if most is None else most
        self._pace = pace
        #: What a model fixes tells nothing about the right size.
        self._is_free = most is not None and mapping.batch is None and mapping.text is None
        self._size = 0
        self._cut = cut(tensors, mapping, lambda: None if most is None else self._size)
        self._lock = threading.Lock()
        self._answers: list[list[Tensor]] = []
        self._stopped = False

    def run(self, send: Send) -> Sequence[list[Tensor]]:
        """Send all chunks and return the answers in their order. Raise what `send` raises first."""
        while self._left > 0 and self._is_next_alone():
            self._send_next(send)
        if self._left > 0:
            self._run_together(send)
        return self._answers

    def _is_next_alone(self) -> bool:
        """Return whether the next chunk is sent by itself: it is the last one, or tells how large others may be."""
        return self._left <= self._rows() or (self._is_free and self._pace.grows)

    def _rows(self) -> int:
        return min(self._pace.rows, self._most) if self._is_free else self._most

    def _run_together(self, send: Send) -> None:
        threads = min(IN_FLIGHT, -(-self._left // self._rows()))
        with ThreadPoolExecutor(threads, "mlflow-redisai-predict") as pool:
            # With the call's deadline. A context can't be entered by two threads.
            runs = [pool.submit(contextvars.copy_context().run, self._send_some, send) for _ in range(threads)]
            try:
                for run in as_completed(runs):
                    run.result()
            finally:
                self._stopped = True

    def _send_some(self, send: Send) -> None:
        while not self._stopped and self._send_next(send):
            pass

    def _send_next(self, send: Send) -> bool:
        """Send the next chunk and keep its answer. Return False if there is none."""
        with self._lock:
            self._size = size = self._rows()
            chunk = next(self._cut, None)
            if chunk is None:
                return False
            rows = min(size, self._left)
            self._left -= rows
            place = len(self._answers)
            self._answers.append([])
        began = monotonic()
        self._answers[place] = send(chunk)
        if self._is_free:
            self._pace.took(rows, monotonic() - began, self._most)
        return True
