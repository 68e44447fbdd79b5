"""
Backpressure: a connection is not read while at least one reason holds it back.

When one side reads slowly, the engine stops reading the other side. So data waits at its sender, and the engine's
buffers stay bounded. Several reasons may hold at the same time, so each is released separately.

Invariant: a transport is paused exactly while at least one reason holds.
"""

from __future__ import annotations

import asyncio
from enum import Flag, auto


class Reason(Flag):
    """Why a connection is not being read."""

    NONE = 0
    SLOW_CLIENT = auto()  # the client doesn't read its replies
    SLOW_REDIS = auto()  # Redis doesn't read its requests, or isn't connected yet
    BACKLOG = auto()  # many bytes of requests wait for an earlier request to end
    HELD_REPLIES = auto()  # many bytes of replies wait for an earlier reply


class Reading:
    """The reading side of one transport. Reasons may hold before the transport is attached."""

    __slots__ = ("_reasons", "_transport")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reasons = Reason.NONE

    def attach(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        if self._reasons:
            transport.pause_reading()

    def hold(self, reason: Reason) -> None:
        if not self._reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons |= reason

    def release(self, reason: Reason) -> None:
        if not self._reasons & reason:
            return
        self._reasons &= ~reason
        if not self._reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
