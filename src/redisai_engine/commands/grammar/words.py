"""
What stands in arguments: words from left to right, text, and numbers as strict as Redis reads them.
"""

from __future__ import annotations

import re

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_DOUBLE = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE)
_HEX_DOUBLE = re.compile(rb"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?", re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)


def integer(text: bytes) -> int | None:
    """Reads a 64-bit integer; None for anything that Redis refuses (spaces, a plus, leading zeros, fractions)."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if value in _INT64 else None


def double(text: bytes) -> float | None:
    """Reads a double as C does, hexadecimal too; None for nan and for what is no number or out of a double's range."""
    if _HEX_DOUBLE.fullmatch(text):
        return float.fromhex(text.decode())
    if not _DOUBLE.fullmatch(text):
        return None
    value = float(text)
    if value in (float("inf"), float("-inf")) and b"n" not in text.lower():
        return None  # strtod says ERANGE
    return value


def text(word: bytes) -> str:
    """Turns a word into text; bytes that aren't utf-8 survive."""
    return word.decode("utf-8", "surrogateescape")


class Words:
    """The arguments from left to right; reads past the end give None."""

    __slots__ = ("left", "position")

    def __init__(self, left: list[bytes], position: int = 0) -> None:
        self.left = left
        self.position = position

    def take(self) -> bytes | None:
        word = self.left[self.position] if self.position < len(self.left) else None
        self.position += 1
        return word

    def take_if(self, keyword: bytes) -> bool:
        """Skips the next word if it is `keyword` in any letter case."""
        if self.position < len(self.left) and self.left[self.position].upper() == keyword:
            self.position += 1
            return True
        return False

    def take_many(self, count: int) -> list[bytes]:
        words = self.left[self.position : self.position + count]
        self.position += count
        return words

    @property
    def rest(self) -> list[bytes]:
        return self.left[self.position :]
