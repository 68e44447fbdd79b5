"""
The program of a host: loads one model or script and runs it, until the engine closes the channel. In a host that models
share, a thread does that for each of them: it has a seat.

What a client has sent is first touched here, in a process that is already restricted (`limits.py`). The first message
says what to load from the open file. Its answer describes what was loaded, that of a run is None with the outputs, and
`{"error": [class, text]}` says why there is neither.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, TypeAlias

from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs
from redisai_engine.backends.deadly import danger
from redisai_engine.backends.registry import backend
from redisai_engine.backends.scripts import ScriptCall
from redisai_engine.execution.hosts.frames import (
    ALONE,
    SEATS,
    TRIAL,
    Channel,
    from_bytes,
    from_error,
    to_bytes,
    to_error,
    to_value,
)
from redisai_engine.protocol.frames import Value
from redisai_engine.weight import private_bytes

_SEAT_DESCRIPTORS = 2  # that come with each seat: its channel, and its blob

Run: TypeAlias = Callable[[Any, Sequence[Any]], Outputs]

# Constants of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1  # bytes

#: Bytes of a model of which the copies of its weights are most of what a load takes.
_LARGE = 2**26


def serve(connection: socket.socket, file: int, missing: list[str]) -> None:
    """
    Serve the model or script in the open file, or seats for models. `missing` is what couldn't be restricted.

    The first message says which.
    """
    weight = [os.getpid(), private_bytes(os.getpid())]
    channel = Channel(connection)
    given, _ = channel.receive()
    if given == SEATS:
        os.close(file)
        channel.send({"missing": missing, "weight": weight})
        serve_seats(channel)
    else:
        _serve(channel, given, file, {"missing": missing, "weight": weight})


def serve_seats(channel: Channel) -> None:
    """Serve each seat that the engine passes, in a thread of its own, until it closes the channel."""
    _set_heap(_M_ARENA_MAX, 1)  # of more, nearly each thread reserves 64 MB, as if models were short of memory
    with suppress(EOFError):
        while True:
            connection, file = channel.receive_descriptors(_SEAT_DESCRIPTORS)
            threading.Thread(target=_serve_seat, args=(connection, file), daemon=True).start()


def _serve_seat(connection: int, file: int) -> None:
    with socket.socket(fileno=connection) as line, suppress(EOFError, OSError):  # the engine has given the seat up
        channel = Channel(line)
        given, _ = channel.receive()
        _serve(channel, given, file, {})


def _serve(channel: Channel, given: dict[str, Any], file: int, about_process: dict[str, Any]) -> None:
    """Load from the open file what the first message says, and run it until the engine closes the channel."""
    try:
        run, about = _loaded(channel, given, _content(file))
    except Exception as error:
        channel.send(from_error(error))
        return
    channel.send({**about, **about_process})
    channel.awake_seconds = given.get("awake_seconds", 0.0)
    with suppress(EOFError):
        run_all(channel, run)


def _keep_freed_memory() -> None:
    """
    Take large blocks from the heap, too, and give none of it back to the system.

    A load copies the weights several times, and frees each copy after the next. To get new memory for each takes longer
    than all else that a load does. A host on probation ends soon. What is freed lies in pieces, so that a load may take
    a fifth more in all: too much for a small model that computes large constants, whose blob doesn't count for it.
    """
    _set_heap(_M_MMAP_MAX, 0)
    _set_heap(_M_TRIM_THRESHOLD, _NEVER)


def _set_heap(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not all C libraries have it
        mallopt(option, value)


def run_all(channel: Channel, run: Run) -> None:
    """Carry out runs. Stay awake for the next one if it may come as soon as the latest. Raise EOFError at the end."""
    answered_at = -inf
    while True:
        message, arrays = channel.receive()
        is_close = monotonic() - answered_at < channel.awake_seconds
        _answer(channel, run, message, arrays)
        answered_at = monotonic()
        if is_close and message is ALONE:
            channel.stay_awake()


def _content(file: int) -> bytes:
    """Read a file from its start, without the offset that other hosts of the same model share."""
    size = os.fstat(file).st_size
    parts: list[bytes] = []
    while (start := sum(map(len, parts))) < size:
        parts.append(os.pread(file, size - start, start))
    os.close(file)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _loaded(channel: Channel, given: dict[str, Any], content: bytes) -> tuple[Run, dict[str, Any]]:
    """Load a model or script. Return a function that runs it, and what the engine wants to know of it."""
    if "entry_points" in given:
        return _script(channel, given, content), {}
    framework = backend(given["backend"])
    is_trial = given.get("on_probation", False)
    if is_trial and len(content) > _LARGE:
        _keep_freed_memory()
    load = framework.try_out if is_trial else framework.load
    model = load(
        content,
        given["device"],
        inputs=given["inputs"],
        outputs=given["outputs"],
        settings=BackendSettings(*given["threads"]),
    )
    return lambda message, arrays: try_once(model) if message == TRIAL else model.run(arrays), {
        "inputs": model.inputs,
        "outputs": model.outputs,
        "infos": [
            [info and [info.dtype, info.shape] for info in infos] for infos in (model.input_infos, model.output_infos)
        ],
        "steady": model.steady,
        "loop_rows": model.loop_rows,
        "takes_text": model.takes_text,
        "danger": danger(content) if is_trial else "",
    }


def try_once(model: LoadedModel) -> Outputs:
    """Run a model on made-up inputs, if it has a use for any. Return nothing: only that it returns counts."""
    arrays = model.example()
    if arrays is not None:
        model.run(arrays)
    return []


def _answer(channel: Channel, run: Run, message: Any, arrays: Sequence[Any]) -> None:
    try:
        channel.send(None, run(message, arrays))
    except OSError:  # the engine has ended
        raise
    except Exception as error:
        channel.send(from_error(error))


# Scripts: what they ask of Redis, they ask the engine. It does nothing else on the channel until they have the answer.


def _script(channel: Channel, given: dict[str, Any], source: bytes) -> Callable[[Any, Sequence[Any]], Outputs]:
    """Compile a script and return a function that carries out a call, as a message and arrays. Raise ModelLoadError."""
    from redisai_engine.backends.torch_script import compile_script

    text = source.decode("utf-8", "surrogateescape")
    script = compile_script(text, given["entry_points"], given["device"], BackendSettings(*given["threads"]))
    caller = ChannelCaller(channel)

    def run(message: Any, arrays: Sequence[Any]) -> Outputs:
        keys, arguments = ([to_bytes(word) for word in message[name]] for name in ("keys", "arguments"))
        return script.run(ScriptCall(script, message["function"], keys, arguments, message["outputs"], caller), arrays)

    return run


class ChannelCaller:
    """Passes a script's requests on to the engine."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def command(self, arguments: Sequence[bytes]) -> Value:
        return to_value(self.ask({"command": [from_bytes(word) for word in arguments]})[0]["value"])

    def model(self, key: bytes) -> LoadedModel:
        return AskedModel(self, from_bytes(key))

    def ask(self, question: dict[str, Any], arrays: Sequence[Array] = ()) -> tuple[Any, Outputs]:
        self._channel.send({"asks": question}, arrays)
        answer, outputs = self._channel.receive()
        if "error" in answer:
            raise to_error(*answer["error"])
        return answer, outputs


class AskedModel(LoadedModel):
    """A model that the engine runs for a script."""

    def __init__(self, caller: ChannelCaller, key: str) -> None:
        self._caller = caller
        self._key = key
        about, _ = caller.ask({"model": key})
        self.inputs, self.outputs = tuple(about["inputs"]), tuple(about["outputs"])

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        return self._caller.ask({"run": self._key}, arrays)[1]
