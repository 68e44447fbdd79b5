"""
The program of a host: loads one model or script and runs it, until the engine closes the channel.

What a client has sent is first touched here, in a process that is already restricted (`limits.py`). The first message
says what to load from the open file. Its answer describes what was loaded, that of a run is None with the outputs, and
`{"error": [class, text]}` says why there is neither.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from redisai_engine.backends.base import BackendSettings, Outputs
from redisai_engine.backends.registry import backend
from redisai_engine.execution.hosts.answers import from_error
from redisai_engine.execution.hosts.asking import script_in_host
from redisai_engine.execution.hosts.frames import Channel

Run: TypeAlias = Callable[[Any, Sequence[Any]], Outputs]


def serve(connection: socket.socket, file: int, missing: list[str]) -> None:
    """Load from the open file what the first message says, and run it. `missing` is what couldn't be restricted."""
    channel = Channel(connection)
    given, _ = channel.receive()
    try:
        run, about = _loaded(channel, given, _content(file))
    except Exception as error:
        channel.send(from_error(error))
        return
    channel.send({**about, "missing": missing})
    while True:
        try:
            message, arrays = channel.receive()
        except EOFError:
            return
        _answer(channel, run, message, arrays)


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
        return script_in_host(channel, given, content), {}
    model = backend(given["backend"]).load(
        content,
        given["device"],
        inputs=given["inputs"],
        outputs=given["outputs"],
        settings=BackendSettings(*given["threads"]),
    )
    return lambda _, arrays: model.run(arrays), {"inputs": model.inputs, "outputs": model.outputs}


def _answer(channel: Channel, run: Run, message: Any, arrays: Sequence[Any]) -> None:
    try:
        channel.send(None, run(message, arrays))
    except OSError:  # the engine has ended
        raise
    except Exception as error:
        channel.send(from_error(error))
