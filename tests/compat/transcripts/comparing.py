"""
Compares a server's reply with the recorded one. README.md beside it describes the forms of both.

Invariant: what a server may leave open stands in the recordings, never here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import struct
from collections.abc import Callable
from typing import Any

Reply = dict[str, Any]  # as README.md lists its forms

SHOWN = 300  # characters of a reply in a message

_KINDS = {
    "bulk_b64": "bulk",
    "verbatim_b64": "verbatim",
    "approx_f32": "bulk",
    "approx_f64": "bulk",
    "error_prefix": "error",
    "unordered": "array",
}


def kind_of(reply: Reply) -> str:
    form = next(form for form in reply if form != "shape")
    return _KINDS.get(form, form)


def bytes_of(reply: Reply) -> bytes | None:
    """The bytes of a bulk or verbatim string; None for other replies."""
    for form in ("bulk", "verbatim"):
        if form in reply:
            return str(reply[form]).encode()
        if f"{form}_b64" in reply:
            return base64.b64decode(reply[f"{form}_b64"])
    return None


def number_of(reply: Reply) -> float | None:
    for form in ("double", "bulk", "int"):
        if form in reply:
            with contextlib.suppress(ValueError):
                return float(reply[form])
    return None


def about_equal(expected: float, actual: float) -> bool:
    if math.isnan(expected) or math.isnan(actual):
        return math.isnan(expected) and math.isnan(actual)
    if math.isinf(expected) or math.isinf(actual):
        return expected == actual
    return abs(expected - actual) <= 1e-5 + 1e-4 * abs(expected)


def short(reply: Any) -> str:
    text = json.dumps(reply, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def match(expected: Reply, actual: Reply, mode: str = "exact", place: str = "reply") -> str | None:
    """Gives None when `actual` is what was recorded, else a short text that says where it differs."""
    for form, matcher in _PLACEHOLDERS.items():
        if form in expected:
            return matcher(expected, actual, mode, place)
    kind = kind_of(expected)
    if kind != kind_of(actual):
        return f"{place}: expected {short(expected)}, got {short(actual)}"
    if mode == "type":
        return None
    if mode.startswith("prefix:"):
        return _match_start(actual, mode.removeprefix("prefix:"), place)
    return _match_same_kind(kind, expected, actual, mode, place)


def _match_same_kind(kind: str, expected: Reply, actual: Reply, mode: str, place: str) -> str | None:
    if mode == "approx" and (number := number_of(expected)) is not None and (other := number_of(actual)) is not None:
        same, wanted = about_equal(number, other), "about "
    elif kind in ("array", "set", "push"):
        return _match_elements(expected[kind], actual[kind], mode, place)
    elif kind == "map":
        return _match_pairs(expected["map"], actual["map"], mode, place)
    elif kind in ("bulk", "verbatim"):
        same, wanted = bytes_of(expected) == bytes_of(actual), ""
    else:
        same, wanted = expected == actual, ""
    return None if same else f"{place}: expected {wanted}{short(expected)}, got {short(actual)}"


def _match_start(actual: Reply, start: str, place: str) -> str | None:
    text = next((str(actual[form]) for form in ("error", "simple", "bulk") if form in actual), "")
    return None if text.startswith(start) else f"{place}: expected a start of {start!r}, got {short(actual)}"


def _match_elements(expected: list[Reply], actual: list[Reply], mode: str, place: str) -> str | None:
    if len(expected) != len(actual):
        return f"{place}: expected {len(expected)} elements, got {len(actual)}: {short(actual)}"
    pairs = enumerate(zip(expected, actual, strict=True))
    found = (match(*each, mode, f"{place}[{number}]") for number, each in pairs)
    return next(filter(None, found), None)


def _match_pairs(expected: list[list[Reply]], actual: list[list[Reply]], mode: str, place: str) -> str | None:
    if len(expected) != len(actual):
        return f"{place}: expected {len(expected)} pairs, got {len(actual)}"
    pairs = enumerate(zip(expected, actual, strict=True))
    found = (_match_elements(*each, mode, f"{place}, pair {number},") for number, each in pairs)
    return next(filter(None, found), None)


def _match_any(expected: Reply, actual: Reply, _: str, place: str) -> str | None:
    if expected["any"] in ("*", kind_of(actual)):
        return None
    return f"{place}: expected any {expected['any']}, got {short(actual)}"


def _match_error_prefix(expected: Reply, actual: Reply, _: str, place: str) -> str | None:
    if str(actual.get("error", "")).startswith(expected["error_prefix"]) and "error" in actual:
        return None
    return f"{place}: expected an error starting {expected['error_prefix']!r}, got {short(actual)}"


def _match_contains(expected: Reply, actual: Reply, _: str, place: str) -> str | None:
    data = bytes_of(actual)
    if data is None:
        return f"{place}: expected a bulk, got {short(actual)}"
    missing = [text for text in expected["contains"] if text.encode() not in data]
    return f"{place}: lacks {missing!r}" if missing else None


def _match_floats(form: str, code: str) -> Callable[[Reply, Reply, str, str], str | None]:
    size = struct.calcsize(f"<{code}")

    def matcher(expected: Reply, actual: Reply, _: str, place: str) -> str | None:
        wanted, data = expected[form], bytes_of(actual)
        if data is not None and len(data) == len(wanted) * size:
            numbers = struct.unpack(f"<{len(wanted)}{code}", data)
            if all(about_equal(float(number), other) for number, other in zip(wanted, numbers, strict=True)):
                return None
            return f"{place}: expected about {wanted}, got {list(numbers)}"
        return f"{place}: expected about {wanted}, got {short(actual)}"

    return matcher


def _match_unordered(expected: Reply, actual: Reply, mode: str, place: str) -> str | None:
    left = list(actual.get("array", actual.get("set", ())))
    if len(left) != len(expected["unordered"]):
        return f"{place}: expected {len(expected['unordered'])} elements in any order, got {short(actual)}"
    for wanted in expected["unordered"]:
        found = next((number for number, element in enumerate(left) if match(wanted, element, mode) is None), None)
        if found is None:
            return f"{place}: no element like {short(wanted)} in {short(actual)}"
        del left[found]
    return None


_PLACEHOLDERS = {
    "any": _match_any,
    "error_prefix": _match_error_prefix,
    "contains": _match_contains,
    "approx_f32": _match_floats("approx_f32", "f"),
    "approx_f64": _match_floats("approx_f64", "d"),
    "unordered": _match_unordered,
}
