"""
What values settings may have: functions that make a parser of what is allowed.

A parser takes text and returns a value, or raises ValueError that says what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redisai_engine.protocol.patterns import split_patterns

#: A pattern that stands for every key.
ALL_KEYS = "*"


def number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"it must be a whole number from {least} to {most}")
        return value

    return parse


def switch(text: str) -> bool:
    values = {"yes": True, "true": True, "1": True, "on": True, "no": False, "false": False, "0": False, "off": False}
    if text.lower() not in values:
        raise ValueError("it must be yes or no")
    return values[text.lower()]


def keys(text: str) -> str:
    """Return the patterns of the keys that a switch turns on for: all, none, or those that stand in its place."""
    try:
        return ALL_KEYS if switch(text) else ""
    except ValueError:
        return ",".join(split_patterns(text))


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"it must be {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text.lower()

    return parse


def names_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        names = [name.strip().upper() for name in text.split(",") if name.strip()]
        if not set(names) <= set(allowed):
            raise ValueError(f"it must be names out of {', '.join(allowed)}, separated by commas")
        return ",".join(names)

    return parse
