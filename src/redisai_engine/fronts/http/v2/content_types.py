"""
MLServer's `content_type`, which says in `parameters` what a request's or an input's values stand for.

`base64` is undone as soon as an input is read; dates and times only become such in columns of a signature, because no
tensor holds them. `np`, `pd` and `str` need nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array
from redisai_engine.fronts.http.access.failures import bad_request

_CONTENT_TYPES = ("np", "pd", "str", "base64", "datetime")


def content_type(parameters: Mapping[str, Any]) -> str | None:
    """Return MLServer's content type, without what follows a semicolon. Raise RequestRefused for an unknown one."""
    found = parameters.get("content_type")
    if found is None:
        return None
    kind = found.partition(";")[0].strip() if type(found) is str else found
    if kind not in _CONTENT_TYPES:
        raise bad_request(f"content_type can't be {found!r:.40}; allowed: {', '.join(_CONTENT_TYPES)}")
    return str(kind)


def undone(name: str, array: Array, parameters: Mapping[str, Any]) -> Array:
    """Return an input without the Base64 that its content type tells of. Raise RequestRefused if that doesn't fit."""
    kind = content_type(parameters)
    if kind in ("base64", "datetime") and array.dtype.kind != "O":
        raise bad_request(f"input {name!r} has the content_type {kind}, so its datatype must be BYTES")
    return _each(array, _from_base64) if kind == "base64" else array


def dates(array: Array) -> Array:
    """Return texts as dates and times. Raise RequestRefused for one that is none."""
    return _each(array, _from_iso)


def _each(array: Array, decode: Any) -> Array:
    decoded = np.empty(array.size, object)
    decoded[:] = [decode(value) for value in array.ravel().tolist()]
    return decoded.reshape(array.shape)


def _from_base64(value: str) -> str:
    try:
        return base64.b64decode(value.encode("utf-8", "replace"), validate=True).decode("utf-8", "surrogateescape")
    except binascii.Error:
        raise bad_request(f"{value!r:.40} isn't Base64, as its content_type says") from None


def _from_iso(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise bad_request(f"{value!r:.40} isn't a date and time as its content_type says: ISO 8601") from None
