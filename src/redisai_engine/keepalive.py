"""
TCP keepalive: how the kernel notices that the other side of a silent connection is gone without a word.

Sockets that aren't TCP stay as they are, and so do options that the system doesn't have.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PROBES = 3  # unanswered, until the connection is closed


def keep_alive(connection: Any, *, idle: int, interval: int, unsent_ms: int = 0) -> None:
    """
    Have the kernel probe a connection, or those that a listening socket accepts.

    It does so after `idle` seconds of silence and then every `interval` seconds. With `unsent_ms`, the connection is
    also closed when sent data isn't taken for that long.
    """
    if connection.family not in _FAMILIES:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = {"TCP_KEEPIDLE": idle, "TCP_KEEPINTVL": interval, "TCP_KEEPCNT": _PROBES}
    if unsent_ms:
        values["TCP_USER_TIMEOUT"] = unsent_ms
    for name, value in values.items():
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def keep_upstream_alive(transport: asyncio.BaseTransport, unsent_ms: int) -> None:
    """Have a connection to Redis end within about a minute of silence of the network."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        keep_alive(connection, idle=30, interval=10, unsent_ms=unsent_ms)
