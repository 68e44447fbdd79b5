"""
Patterns of keys, as Redis' KEYS and its ACLs know them, and the keys that they allow for something.

A model that is being verified has a key of the plugin's own, `mlflow-redisai:{TAG}:verify:ID`, where TAG is the name
that it is to get, or what that has between braces. Such a key is allowed if its TAG would be. So an ACL that keeps
users from the names that a pattern stands for must keep them from `mlflow-redisai:{PATTERN}:*`, too.
"""

from __future__ import annotations

import re
from functools import lru_cache

#: With which the plugin's own keys begin.
OWN_KEYS = b"mlflow-redisai:"
VERIFYING = b":verify:"

_SEPARATOR = ","


class KeyPatterns:
    """Patterns, separated by commas. Without any, no key is allowed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._patterns = [word.encode("utf-8", "surrogateescape") for word in split_patterns(text)]

    def allow(self, key: bytes) -> bool:
        """Return whether a key is allowed, or, if a model is being verified under it, the name that it is to get."""
        tag = _verified(key)
        return any(matches(pattern, key) or (tag and matches(pattern, tag)) for pattern in self._patterns)


def split_patterns(text: str) -> list[str]:
    return [word.strip() for word in text.split(_SEPARATOR) if word.strip()]


def matches(pattern: bytes, key: bytes) -> bool:
    """Return whether a pattern stands for a key: * ? [abc] [^a-c], and a backslash before what stands for itself."""
    return _compiled(pattern).fullmatch(key) is not None


def _verified(key: bytes) -> bytes:
    """Return the TAG of the key of a model that is being verified; nothing for another key."""
    head, _, rest = key.partition(b"}")
    if not head.startswith(OWN_KEYS + b"{") or not rest.startswith(VERIFYING):
        return b""
    return head[len(OWN_KEYS) + 1 :]


@lru_cache(1000)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    parts: list[bytes] = []
    place = 0
    while place < len(pattern):
        char = pattern[place : place + 1]
        place += 1
        if char == b"*":
            parts += [b".*"] if parts[-1:] != [b".*"] else []
        elif char == b"?":
            parts.append(b".")
        elif char == b"[":
            part, place = _one_of(pattern, place)
            parts.append(part)
        else:
            if char == b"\\" and place < len(pattern):
                char = pattern[place : place + 1]
                place += 1
            parts.append(re.escape(char))
    return re.compile(b"".join(parts), re.DOTALL)


def _one_of(pattern: bytes, place: int) -> tuple[bytes, int]:
    """Return the regular expression for what follows a `[`, and the place behind it. Its end may be the pattern's."""
    negated = pattern[place : place + 1] == b"^"
    place += negated
    allowed: set[int] = set()
    while place < len(pattern) and pattern[place] != ord("]"):
        if pattern[place] == ord("\\") and place + 1 < len(pattern):
            allowed.add(pattern[place + 1])
            place += 2
        elif pattern[place + 1 : place + 2] == b"-" and place + 2 < len(pattern):
            first, last = sorted((pattern[place], pattern[place + 2]))
            allowed.update(range(first, last + 1))
            place += 3
        else:
            allowed.add(pattern[place])
            place += 1
    chars = b"".join(b"\\x%02x" % char for char in sorted(allowed))
    if not chars:
        return (b"." if negated else b"(?!)"), place + 1
    return b"[%b%b]" % (b"^" if negated else b"", chars), place + 1
