"""
The pieces of arguments: words from left to right, text, and numbers read as strictly as Redis reads them.
"""

from __future__ import annotations

import re

# What Redis' string2ll() and strtod() accept: a module reads the numbers in its arguments with them.
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_DOUBLE = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)", re.IGNORECASE)
_HEX_DOUBLE = re.compile(rb"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?", re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)


def integer(text: bytes) -> int | None:
    """Read a 64-bit integer; None for all that Redis refuses (spaces, a plus sign, leading zeros, fractions)."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if value in _INT64 else None


def double(text: bytes) -> float | None:
    """
    Read a double as C's strtod does, hexadecimal included.

    Return None for nan, for text that is no number, and for numbers outside a double's range: too large for it, or so
    small that nothing but zero is left.
    """
    is_hex = _HEX_DOUBLE.fullmatch(text) is not None
    if not is_hex and not _DOUBLE.fullmatch(text):
        return None
    try:
        value = float.fromhex(text.decode()) if is_hex else float(text)
    except OverflowError:  # only fromhex() raises it
        return None
    is_infinite = value in (float("inf"), float("-inf"))
    if (is_infinite and b"n" not in text.lower()) or (value == 0 and _has_digits(text, is_hex=is_hex)):
        return None  # strtod reports ERANGE
    return value


def _has_digits(number: bytes, *, is_hex: bool) -> bool:
    """Return whether a number in front of its exponent has another digit than zero."""
    lower = number.lower()
    mantissa = lower.partition(b"x")[2].partition(b"p")[0] if is_hex else lower.partition(b"e")[0]
    return mantissa.strip(b"+-0.") != b""


def whole_number(text: bytes) -> int | None:
    """Read a 64-bit integer, or a double without a fraction (`1e3`, `2.0`), as RedisAI does for some arguments."""
    value = integer(text)
    if value is not None:
        return value
    number = double(text)
    return int(number) if number is not None and number.is_integer() and int(number) in _INT64 else None


def text(word: bytes) -> str:
    """Decode a word; bytes that aren't UTF-8 survive as surrogates."""
    return word.decode("utf-8", "surrogateescape")


class Words:
    """The arguments from left to right. Reading past the end gives None."""

    __slots__ = ("left", "position")

    def __init__(self, left: list[bytes], position: int = 0) -> None:
        self.left = left
        self.position = position

    def take(self) -> bytes | None:
        word = self.left[self.position] if self.position < len(self.left) else None
        self.position += 1
        return word

    def is_next(self, keyword: bytes) -> bool:
        """Return whether the next word is `keyword`, in any letter case."""
        return self.position < len(self.left) and self.left[self.position].upper() == keyword

    def take_if(self, keyword: bytes) -> bool:
        """Skip the next word and return True if it is `keyword`, in any letter case."""
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
