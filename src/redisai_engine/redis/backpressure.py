"""
Whether a connection is read from: not while there is a reason against it.

Slow readers are waited for at their side and buffers stay bounded, because the other side is not read meanwhile. There
may be several reasons at a time, so each is taken back by itself.

Invariant: a transport is paused exactly while there are reasons.
"""

from __future__ import annotations

import asyncio
from enum import Flag, auto


class Reason(Flag):
    """Why a connection is not read."""

    NONE = 0
    SLOW_CLIENT = auto()  # the client doesn't take its replies
    SLOW_REDIS = auto()  # Redis doesn't take the requests, or is not connected yet
    BACKLOG = auto()  # many bytes of requests wait for one that must end first
    HELD_REPLIES = auto()  # many bytes of replies wait for an earlier one


class Reading:
    """The reading side of one transport, which may come later than the first reason."""

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
