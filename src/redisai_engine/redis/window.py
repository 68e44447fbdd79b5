"""
How many replies Redis may owe one client at the same time.

Redis carries out everything that it is sent, and holds the replies that aren't read. So a client that sends requests
and reads nothing would fill Redis' memory. How large replies will be is unknown before they come: a connection begins
with few at a time, and has more once they turn out to be small.
"""

from __future__ import annotations

_FIRST = 4  # replies
_GROWTH = 4
_MOST = 256


class ReplyWindow:
    """`size` is how many replies may be due. `most_bytes` is what they may have together, as far as is known."""

    __slots__ = ("_due", "_most_bytes", "_received", "size")

    def __init__(self, most_bytes: int) -> None:
        self.size = _FIRST
        self._most_bytes = most_bytes
        self._due = 0
        self._received = 0

    def close(self, due: int, received: int) -> None:
        """Record that no more requests are sent, since so many replies are due, and so many bytes have come before."""
        self._due = due
        self._received = received

    def may_open(self, due: int) -> bool:
        """Return whether so many of the replies have come that more requests may be sent."""
        return due <= self.size // 2

    def open(self, due: int, received: int) -> None:
        """Choose the next size by what has come since `close`."""
        replies = max(1, self._due - due)
        each = max(1, (received - self._received) // replies)
        self.size = max(1, min(_MOST, self.size * _GROWTH, self._most_bytes // each))
