"""
Clients under load: some predict, one writes, all the time, and everything that they see is recorded.

Each client reconnects when its connection ends, at once and without end, as clients of a pool do. A prediction is a sum
of two numbers, so each answer can be checked.

Invariant: what `Load` says about a write is what its client knew: acknowledged, refused, or unknown (no answer).
"""

from __future__ import annotations

import itertools
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from support.connection import Connection
from support.gateway import modelstore, prediction
from support.servers import Server

MODEL = "faults:model"
_CONNECT_SECONDS = 5.0
_MODEL_EACH = 25  # one write of so many stores a model, the others a key


class Load:
    """The clients of one engine, between `with`. `MODEL` is stored before."""

    def __init__(self, engine: Server, predicting: int = 4) -> None:
        self._port = engine.port
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(self._predict,)) for _ in range(predicting)]
        self._threads.append(threading.Thread(target=self._client, args=(self._write,)))
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.answers: list[float] = []  # when each prediction was answered
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.keys: list[int] = []  # acknowledged
        self.models: list[int] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def answered_since(self, moment: float) -> float | None:
        """Return when the first prediction after this moment was answered, if one was."""
        with self._lock:
            return next((when for when in self.answers if when > moment), None)

    def longest_pause(self, since: float) -> float:
        """Return the longest time in seconds without any answer, from this moment on."""
        with self._lock:
            times = [since, *(when for when in self.answers if when > since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    # -- one client

    def _client(self, ask: Callable[[Connection], None]) -> None:
        while not self._ending.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=_CONNECT_SECONDS) as connection:
                    wire = Connection(connection)
                    while not self._ending.is_set():
                        ask(wire)
            except TimeoutError:
                self._saw("no answer within 10 s")
            except (OSError, AssertionError) as error:  # of `Connection`: the connection ended before the reply
                self._saw("connection refused" if isinstance(error, ConnectionRefusedError) else "connection ended")
                self._ending.wait(0.01)  # where nobody listens, the next attempt fails at once

    def _predict(self, wire: Connection) -> None:
        number = next(self._numbers) % 1000
        wire.send(prediction(MODEL, number, 1))
        value = sum_or_error(wire.reply())
        if isinstance(value, str):
            self._saw(value)
        elif value != number + 1:
            self.wrong.append(f"{number} + 1 = {value}")
        else:
            with self._lock:
                self.answers.append(monotonic())

    def _write(self, wire: Connection) -> None:
        number = next(self._numbers)
        kept = self.keys if number % _MODEL_EACH else self.models
        is_key = kept is self.keys
        wire.send(f"SET faults:key:{number} {number}" if is_key else modelstore(f"faults:model:{number}"))
        reply = wire.reply()
        if reply == b"+OK\r\n":
            kept.append(number)
        else:
            self._saw(str(sum_or_error(reply)))

    def _saw(self, error: str) -> None:
        with self._lock:
            self.errors[error] += 1


def sum_or_error(reply: bytes) -> float | str:
    """Return the number in the reply to `prediction`, or the text of the error that is in it."""
    error = re.search(rb"(?:^|\r\n)-([^\r]*)", reply)
    return error[1].decode(errors="replace") if error else float(struct.unpack("<f", reply[-6:-2])[0])


def lost(load: Load, engine: Server) -> list[str]:
    """Return the acknowledged writes that aren't there, or that don't answer as they should."""
    found = []
    with (
        socket.create_connection(("127.0.0.1", engine.port), timeout=_CONNECT_SECONDS) as connection,
        suppress(AssertionError),
    ):
        wire = Connection(connection)
        for number in load.keys:
            if wire.ask(f"GET faults:key:{number}") != f"${len(str(number))}\r\n{number}\r\n".encode():
                found.append(f"key {number}")
        for number in load.models:
            wire.send(prediction(f"faults:model:{number}", 2, 3))
            if sum_or_error(wire.reply()) != 5.0:
                found.append(f"model {number}")
        return found
    return ["the connection ended"]
