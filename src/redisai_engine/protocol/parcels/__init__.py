"""
Parcels: any value that an MLflow model takes or gives, as the bytes of one UINT8 tensor. A Python model is asked and
answers in parcels.

    8 bytes    MAGIC
    4 bytes    length of the JSON, unsigned, little-endian
    JSON       {"value": NODE, "params": NODE}, UTF-8
    buffers    raw arrays, in the order in which their nodes are met; each starts at a multiple of 8, and an empty one
               isn't there

A node is JSON's own text, number, list or object, or an object with the key "!" that names another type. No length in
it is believed: it must fit the buffer.

This folder runs in the environments of models as well, loaded by its path: Python 3.9, NumPy, any pandas from 1.3,
nothing of ours.

Invariant: unpacking runs no code that arrives, raises nothing but ValueError, and takes memory in proportion to the
parcel.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from .limits import MOST_DIGITS
from .reading import ParcelReader
from .writing import ParcelWriter

MAGIC = b"\x93RAIPF\x01\x00"

_HEAD = struct.Struct("<8sI")


def is_parcel(data: Any) -> bool:
    """Return whether bytes are meant as a parcel."""
    return bytes(memoryview(data)[: len(MAGIC)]) == MAGIC


def pack(value: Any, params: dict[str, Any] | None = None) -> bytes:
    """
    Return a value and a model's params as a parcel.

    Objects of a subclass of dict, list, str, int or float become those. Raise TypeError, naming the type and where it
    is, for what can't be packed.
    """
    writer = ParcelWriter()
    document = {"value": writer.at("the value", value), "params": writer.at("params", params)}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(text) >= 1 << 32:
        raise TypeError("the value has 4 GiB or more of text and objects; send fewer rows at a time")
    parts = [_HEAD.pack(MAGIC, len(text)), text]
    length = _HEAD.size + len(text)
    for buffer in writer.buffers:
        padding = -length % 8
        parts += [bytes(padding), buffer]
        length += padding + buffer.nbytes
    return b"".join(parts)


def unpack(parcel: Any) -> tuple[Any, Any]:
    """Return the value and the params of a parcel, any bytes-like object. Raise ValueError if it isn't a whole one."""
    data = memoryview(parcel).cast("B")
    if not is_parcel(data):
        raise ValueError("the bytes are no parcel: they don't begin with its magic number")
    try:
        return _unpack(data)
    # Libraries raise whatever they like for bytes that nobody packed.
    except Exception as error:
        raise ValueError(f"the parcel is damaged: {type(error).__name__}: {str(error)[:200]}") from error


def _unpack(data: memoryview) -> tuple[Any, Any]:
    _, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if end > len(data):
        raise ValueError(f"its text should have {length} bytes, and only {len(data) - _HEAD.size} follow")
    text = str(data[_HEAD.size : end], "utf-8", "surrogatepass")
    document = json.loads(text, parse_int=_integer)
    reader = ParcelReader(data, end)
    found = reader.read(document["value"]), reader.read(document["params"])
    if reader.place != len(data):
        raise ValueError(f"{len(data) - reader.place} bytes follow its end")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise ValueError(f"a number has {len(digits)} digits, and at most {MOST_DIGITS} are allowed")
    return int(digits)
