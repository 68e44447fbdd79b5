"""
Messages between the parent and a worker: JSON objects over a stream socket, each behind its length.

Invariant: a message arrives whole, whatever its size, or `receive` raises BrokenFrame.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct(">I")


class BrokenFrame(Exception):
    """The other side sent bytes that are no message, or a part of one. The link can't be used any more."""


def packed(message: Message) -> bytes:
    data = json.dumps(message).encode()
    return _LENGTH.pack(len(data)) + data


def receive_now(end: socket.socket) -> Message:
    """Wait for the first message, before there is an event loop. Raise BrokenFrame if there is none."""
    (length,) = _LENGTH.unpack(_exactly(end, _LENGTH.size))
    message: Message = json.loads(_exactly(end, length))
    return message


def _exactly(end: socket.socket, size: int) -> bytes:
    data = end.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise BrokenFrame("it ended in the middle of a message")
    return data


class Link:
    """One end of the connection. `received` counts the messages, so that a silent process is noticed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = 0

    @classmethod
    async def open(cls, end: socket.socket) -> Link:
        """Return a link over one end of a socket pair."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Send a message. It is dropped if the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(packed(message))

    async def receive(self) -> Message | None:
        """Return the next message, or None if the other side has closed the link. Raise BrokenFrame."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            message = json.loads(await self._reader.readexactly(length))
        except asyncio.IncompleteReadError as error:
            if error.partial or error.expected != _LENGTH.size:
                raise BrokenFrame("it ended in the middle of a message") from None
            return None
        except ConnectionError:  # the process died
            return None
        except (ValueError, RecursionError):
            raise BrokenFrame("it sent bytes that are no message") from None
        if not isinstance(message, dict):
            raise BrokenFrame("it sent bytes that are no message")
        self.received += 1
        return message

    def close(self) -> None:
        self._writer.close()
