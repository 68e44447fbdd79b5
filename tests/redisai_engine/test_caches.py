"""What clients choose isn't kept if it is large: caches are bounded by bytes, or one client could fill the memory."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from redisai_engine.commands.ai.prepared import PreparedDag, PreparedDags
from redisai_engine.commands.rights import Rights
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.fronts.resp.relayed_names import RelayedNames
from redisai_engine.redis import store

SIZE = 2**20


@pytest.mark.parametrize("dimensions", [0, 1, 32])
@pytest.mark.parametrize("read", [store.parse_tensor, store.parse_shape])
def test_a_header_is_as_long_as_its_dimensions_need(read: Callable[[bytes], object], dimensions: int):
    header = store.TENSOR_MAGIC + struct.pack("<BBHI", 0, dimensions, 0, SIZE)
    value = (header + struct.pack("<q", 1) * dimensions).ljust(SIZE, b"\0") + bytes(4)

    with pytest.raises(WrongType):
        read(value)


@pytest.mark.parametrize("dimensions", [33, 65, 255])
def test_too_many_dimensions_are_still_called_so(dimensions: int):
    size = 16 + 8 * dimensions
    header = store.TENSOR_MAGIC + struct.pack("<BBHI", 0, dimensions, 0, size)

    with pytest.raises(CommandError, match="dimensions"):
        store.parse_tensor(header + bytes(8 * dimensions + 4))


def test_a_long_name_is_not_remembered_as_one_of_a_command():
    names = RelayedNames(())
    for name in (b"GET", b"X" * SIZE, b"set"):
        names.add(name)

    assert names.names == {b"GET", b"set"}


def test_a_right_to_a_long_key_is_asked_for_again():
    loop = asyncio.new_event_loop()
    rights = Rights(loop)
    for key in (b"key", b"k" * SIZE):
        rights.grant(key, b"r")

    assert rights.has(b"key", b"r")
    assert not rights.has(b"k" * SIZE, b"r")
    loop.close()


@pytest.mark.parametrize("place", ["key", "name", "routing"])
def test_a_prediction_with_long_names_is_not_prepared(place: str):
    words = {"key": b"m", "name": b"x", "routing": b"m"}

    def prepared() -> PreparedDag | None:
        name = words["name"]
        blob = (b"AI.TENSORSET", name, b"FLOAT", b"1", b"BLOB", bytes(4))
        execute = (b"AI.MODELEXECUTE", words["key"], b"INPUTS", b"1", name, b"OUTPUTS", b"1", b"y")
        get = (b"AI.TENSORGET", b"y", b"META", b"BLOB")
        head = [b"AI.DAGEXECUTE_RO", b"ROUTING", words["routing"]]
        return PreparedDags().find([*head, b"|>", *blob, b"|>", *execute, b"|>", *get])

    assert prepared() is not None
    words[place] *= SIZE
    assert prepared() is None
