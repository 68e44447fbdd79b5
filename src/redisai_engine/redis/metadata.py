"""
Reading the JSON that describes a stored model or script. Anybody who may write its key may have written it.

Fields that aren't asked for are ignored: a newer version may have written them.

Invariant: whatever the bytes are, the outcome is a value of the promised type and range, or BadMetadata.
"""

from __future__ import annotations

import json
import re
from typing import Any

from redisai_engine.errors import BadMetadata

#: Bytes of a description. A model of ten thousand named inputs takes 200 KB.
MAX_METADATA = 1024 * 1024

_INT64_MAX = 2**63 - 1
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_DEVICE = re.compile(r"[CG]PU.{0,6}", re.IGNORECASE | re.DOTALL)  # AI.MODELSET allows any end


class Metadata:
    """The fields of a description. Each method returns one of them, or raises BadMetadata that names it."""

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, bytes):
            raise BadMetadata("is missing")
        if len(raw) > MAX_METADATA:
            raise BadMetadata(f"has {len(raw)} bytes; at most {MAX_METADATA} are allowed")
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError):
            raise BadMetadata(f"is {raw[:40]!r}, which is not JSON") from None
        if not isinstance(fields, dict):
            raise BadMetadata(f"is {_shown(fields)}, not a JSON object")
        self._fields: dict[str, Any] = fields

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        if not _is_text(value):
            raise self._bad(name, "text")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._fields.get(name)
        if not isinstance(values, list) or not all(map(_is_text, values)):
            raise self._bad(name, "a list of texts")
        return tuple(values)

    def number(self, name: str, most: int = _INT64_MAX) -> int:
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value <= most:  # a bool is an int too
            raise self._bad(name, f"a whole number from 0 to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a flag, which older versions haven't written: False."""
        value = self._fields.get(name, False)
        if type(value) is not bool:
            raise self._bad(name, "true or false")
        return value

    def device(self) -> str:
        value = self.text("device")
        if not _DEVICE.fullmatch(value):
            raise self._bad("device", "CPU, CPU:n, GPU or GPU:n")
        return value

    def id(self, expected: object) -> str:
        """Return the id. It must be the one that the hash has in a field of its own."""
        value = self.text("id")
        if not _ID.fullmatch(value) or value.encode() != expected:
            raise self._bad("id", f"that of the field beside it, {_shown(expected)}")
        return value

    def _bad(self, name: str, allowed: str) -> BadMetadata:
        shown = _shown(self._fields[name]) if name in self._fields else "missing"
        return BadMetadata(f"has a bad {name}: it is {shown}, but must be {allowed}")


def _is_text(value: object) -> bool:
    """Return whether a value is text whose only surrogates stand for bytes that aren't UTF-8."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    try:
        shown = ascii(value)
    except ValueError:  # an integer of too many digits for text
        return "a number of thousands of digits"
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
