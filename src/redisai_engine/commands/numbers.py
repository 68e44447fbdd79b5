"""Numbers in arguments, as strict as Redis reads them."""

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
