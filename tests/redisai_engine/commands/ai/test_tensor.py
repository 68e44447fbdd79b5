"""AI.TENSORSET and AI.TENSORGET: every element type in every form, and which error comes first."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.connection import Connection
from support.replies import OK, WRONGTYPE, array, bulk, bulks, error, integer, tensor, tensor_meta

NUMPY = {
    "FLOAT": "<f4",
    "DOUBLE": "<f8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "BOOL": "u1",
}
INTEGERS = [dtype for dtype in NUMPY if NUMPY[dtype][-2] in "iu" and dtype != "BOOL"]
MISSING = error("ERR tensor key is empty or in a different shard")
BAD_SHAPE = error("ERR invalid or negative value found in tensor shape")
BAD_VALUE = error("ERR invalid value")
LIMIT = 512 * 1024 * 1024  # bytes, of any string in Redis

shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
texts = st.binary(max_size=5).map(lambda text: text.replace(b"\0", b""))


def blobs(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[bytes]:
    """Blobs of that many elements: any bytes for numbers, 0 and 1 for BOOL, text that is closed by zero bytes."""
    count = math.prod(shape)
    if dtype == "STRING":
        return st.lists(texts, min_size=count, max_size=count).map(lambda some: b"".join(text + b"\0" for text in some))
    if dtype == "BOOL":
        return st.lists(st.booleans(), min_size=count, max_size=count).map(bytes)
    size = count * np.dtype(NUMPY[dtype]).itemsize
    return st.binary(min_size=size, max_size=size)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, tuple[int, ...], bytes]:
    dtype, shape = draw(st.sampled_from([*NUMPY, "STRING"])), draw(shapes)
    return dtype, shape, draw(blobs(dtype, shape))


def values_reply(dtype: str, blob: bytes, *, protocol: int = 2) -> bytes:
    """The elements as AI.TENSORGET tells them: floats with 17 significant digits, integers as such, text as it is."""
    if dtype == "STRING":
        return bulks(*blob.split(b"\0")[:-1])
    numbers = np.frombuffer(blob, NUMPY[dtype]).tolist()
    if dtype not in {"FLOAT", "DOUBLE"}:
        return array(map(integer, numbers))
    digits = [f"{number:.17g}" for number in numbers]
    return array(f",{each}\r\n".encode() for each in digits) if protocol == 3 else bulks(*digits)


# -- there and back -------------------------------------------------------------------------------


@given(tensors())
def test_what_was_set_by_blob_comes_back_in_every_form(wire: Connection, key: str, made: tuple[str, tuple[int], bytes]):
    """Property, of every dtype and shape, scalars too; NaN, infinity and negative numbers are among the bytes."""
    dtype, shape, blob = made

    assert wire.ask("AI.TENSORSET", key, dtype, *shape, "BLOB", blob) == OK

    meta, values = tensor_meta(dtype, *shape), values_reply(dtype, blob)
    assert wire.ask(f"AI.TENSORGET {key}") == tensor(dtype, shape, blob)
    assert wire.ask(f"AI.TENSORGET {key} META BLOB") == tensor(dtype, shape, blob)
    assert wire.ask(f"AI.TENSORGET {key} BLOB") == bulk(blob)
    assert wire.ask(f"AI.TENSORGET {key} META") == array(meta)
    assert wire.ask(f"AI.TENSORGET {key} VALUES") == values
    assert wire.ask(f"AI.TENSORGET {key} META VALUES") == array([*meta, bulk("values"), values])


@st.composite
def accepted_values(draw: st.DrawFn) -> tuple[str, tuple[int, ...], list[bytes], bytes]:
    """Values that AI.TENSORSET takes as text, and the blob that they make."""
    dtype, shape = draw(st.sampled_from([*NUMPY, "STRING"])), draw(shapes)
    count = math.prod(shape)
    if dtype == "STRING":
        some = draw(st.lists(texts.filter(bool), min_size=count, max_size=count))
        return dtype, shape, some, b"".join(text + b"\0" for text in some)
    if dtype in {"FLOAT", "DOUBLE"}:
        one = st.floats(width=32 if dtype == "FLOAT" else 64, allow_nan=False)
    else:  # RedisAI takes no negative integers as text
        one = st.integers(0, 1 if dtype == "BOOL" else int(np.iinfo(NUMPY[dtype]).max))
    numbers = draw(st.lists(one, min_size=count, max_size=count))
    return dtype, shape, [repr(number).encode() for number in numbers], np.array(numbers, NUMPY[dtype]).tobytes()


@given(accepted_values())
def test_values_make_the_same_tensor_as_their_blob(
    wire: Connection, direct: Connection, key: str, made: tuple[str, tuple[int], list[bytes], bytes]
):
    """Property: not only are the answers alike, but what Redis holds is, byte for byte."""
    dtype, shape, values, blob = made

    assert wire.ask("AI.TENSORSET", key, dtype, *shape, "VALUES", *values) == OK
    assert wire.ask("AI.TENSORSET", f"{key}:blob", dtype, *shape, "BLOB", blob) == OK

    assert direct.ask(f"GET {key}") == direct.ask(f"GET {key}:blob")
    assert wire.ask(f"AI.TENSORGET {key} VALUES") == values_reply(dtype, blob)


@pytest.mark.parametrize("dtype", [*NUMPY, "STRING"])
def test_a_shape_alone_makes_zeros(wire: Connection, key: str, dtype: str):
    assert wire.ask(f"AI.TENSORSET {key} {dtype} 2 3") == OK

    size = 1 if dtype == "STRING" else np.dtype(NUMPY[dtype]).itemsize
    assert wire.ask(f"AI.TENSORGET {key}") == tensor(dtype, (2, 3), bytes(6 * size))


def test_without_a_shape_it_is_a_scalar(wire: Connection, key: str):
    assert wire.ask(f"AI.TENSORSET {key} INT16 VALUES 7") == OK

    assert wire.ask(f"AI.TENSORGET {key}") == tensor("INT16", (), b"\7\0")


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("dtype", [*NUMPY, "STRING"])
def test_only_floating_point_looks_otherwise_in_resp3(wire: Connection, key: str, dtype: str, protocol: int):
    blob = b"1\0" if dtype == "STRING" else np.ones(1, NUMPY[dtype]).tobytes()
    wire.ask("AI.TENSORSET", key, dtype, 1, "BLOB", blob)
    wire.ask(f"HELLO {protocol}")

    assert wire.ask(f"AI.TENSORGET {key} VALUES") == values_reply(dtype, blob, protocol=protocol)


@pytest.mark.parametrize(
    "words", [some for size in range(3) for some in combinations(("META", "BLOB", "VALUES"), size)]
)
def test_the_order_of_the_words_does_not_matter(wire: Connection, key: str, words: tuple[str, ...]):
    """Nor does their letter case."""
    wire.ask(f"AI.TENSORSET {key} FLOAT 1 VALUES 1")

    one = wire.ask("AI.TENSORGET", key, *words)
    other = wire.ask("AI.TENSORGET", key, *(word.lower() for word in reversed(words)))

    assert one == other
    assert one.startswith(b"-") == ({"BLOB", "VALUES"} == set(words))


def test_a_tensor_in_a_pipeline_of_its_own_connection_is_the_one_set_last(wire: Connection, key: str):
    wire.send(
        *(command for i in range(20) for command in (f"AI.TENSORSET {key} INT8 VALUES {i}", f"AI.TENSORGET {key}"))
    )

    assert wire.replies(40)[1::2] == [tensor("INT8", (), bytes([i])) for i in range(20)]


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, "BOOL"])
def test_the_largest_value_is_taken_and_the_next_is_not(wire: Connection, key: str, dtype: str):
    largest = 1 if dtype == "BOOL" else int(np.iinfo(NUMPY[dtype]).max)

    assert wire.ask(f"AI.TENSORSET {key} {dtype} 1 VALUES {largest}") == OK
    assert wire.ask(f"AI.TENSORSET {key} {dtype} 1 VALUES {largest + 1}") == BAD_VALUE
    assert wire.ask(f"AI.TENSORSET {key} {dtype} 1 VALUES -1") == BAD_VALUE
    assert wire.ask(f"AI.TENSORGET {key} VALUES") == array([integer(largest)])


@pytest.mark.parametrize(
    "shape",
    [
        f"INT8 {LIMIT + 1}",
        f"STRING {LIMIT + 1}",  # an element has a byte at least
        f"DOUBLE {LIMIT // 8 + 1} BLOB x",  # the data is not even looked at
        f"FLOAT {LIMIT // 4} 2 VALUES 1",
        f"FLOAT {2**62} {2**62}",  # their product is no 64-bit number
        f"FLOAT {2**63} 1",
        "FLOAT " + "2 " * 60,
    ],
    ids=lambda shape: shape[:25],
)
def test_a_shape_that_no_string_of_redis_has_room_for(wire: Connection, key: str, shape: str):
    assert wire.ask(f"AI.TENSORSET {key} {shape}") == BAD_SHAPE
    assert wire.ask(f"EXISTS {key}") == integer(0)


def test_a_large_shape_is_one_if_most_of_its_dimensions_are_one(wire: Connection, key: str):
    shape = [*[1] * 20, 3, *[1] * 11]

    assert wire.ask("AI.TENSORSET", key, "INT8", *shape, "BLOB", b"abc") == OK

    assert wire.ask(f"AI.TENSORGET {key}") == tensor("INT8", shape, b"abc")
    assert wire.ask(f"AI.TENSORGET {key} META") == array(tensor_meta("INT8", *shape))
    assert wire.ask(f"AI.TENSORGET {key} VALUES") == array(map(integer, b"abc"))


def test_a_tensor_leaves_room_for_its_header_in_the_string(wire: Connection, key: str):
    """Redis ends a connection that sends it more than 512 MiB."""
    assert wire.ask(f"AI.TENSORSET {key} FLOAT 134217728") == BAD_SHAPE
    assert wire.ask(f"EXISTS {key}") == integer(0)


def test_a_tensor_of_eight_megabytes_passes_both_ways(wire: Connection, key: str):
    blob = np.arange(1024 * 1024, dtype="<f8").tobytes()

    assert wire.ask("AI.TENSORSET", key, "DOUBLE", 1024, 1024, "BLOB", blob) == OK

    assert wire.ask(f"AI.TENSORGET {key} BLOB") == bulk(blob)
    assert wire.ask(f"AI.TENSORGET {key} META") == array(tensor_meta("DOUBLE", 1024, 1024))


# -- the first error is told ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("HALF 0 BLOB", "ERR invalid data type"),
        ("FLOAT 0 VALUES x", "ERR invalid or negative value found in tensor shape"),
        ("FLOAT 2 x VALUES", "ERR invalid or negative value found in tensor shape"),
        ("FLOAT 2 VALUE 1 2", "ERR invalid or negative value found in tensor shape"),
        ("FLOAT 2 VALUES x", "ERR wrong number of values was given in 'AI.TENSORSET' command"),
        ("FLOAT 2 VALUES 1 2 3", "ERR wrong number of values was given in 'AI.TENSORSET' command"),
        ("FLOAT 2 VALUES 1 BLOB", "ERR invalid value"),
        ("FLOAT 1 VALUES nan", "ERR invalid value"),
        ("INT8 2 VALUES 1.0 2", "ERR invalid value"),
        ("INT8 2 VALUES 300 x", "ERR invalid value"),
        ("STRING 2 VALUES a", "ERR wrong number of values was given in 'AI.TENSORSET' command"),
        ("FLOAT 2 BLOB", "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command"),
        (
            "FLOAT 2 BLOB a b",
            "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command",
        ),
        ("FLOAT 2 BLOB abc", "ERR data length does not match tensor shape and type"),
        ("STRING 2 BLOB abc", "ERR Number of string elements in data blob does not match tensor length"),
        ("BOOL 3 BLOB aa", "ERR data length does not match tensor shape and type"),
        ("BOOL 2 BLOB aa", "ERR BOOL tensor elements must be 0 or 1"),
    ],
)
def test_the_first_error_from_left_to_right_is_told(wire: Connection, key: str, words: str, text: str):
    assert wire.ask(f"AI.TENSORSET {key} {words}") == error(text)
    assert wire.ask(f"EXISTS {key}") == integer(0)


@pytest.mark.parametrize("word", [b"a\0b", b"", b"a\0\0"])
def test_a_zero_byte_inside_a_text_is_refused(wire: Connection, key: str, word: bytes):
    """An empty text counts as one."""
    reply = wire.ask("AI.TENSORSET", key, "STRING", 2, "VALUES", b"good", word)

    assert reply == error("ERR C-string value contains null character")


def test_a_text_may_bring_its_own_last_zero_byte(wire: Connection, key: str):
    assert wire.ask("AI.TENSORSET", key, "STRING", 3, "VALUES", b"a\0", b"b", b"\0") == OK

    assert wire.ask(f"AI.TENSORGET {key}") == tensor("STRING", (3,), b"a\0b\0\0")


def test_a_failed_set_leaves_the_tensor_and_its_time_to_live(wire: Connection, direct: Connection, key: str):
    wire.ask(f"AI.TENSORSET {key} INT8 1 VALUES 7")
    wire.ask(f"EXPIRE {key} 100")
    before = direct.ask(f"GET {key}")

    for words in ("FLOAT 2 VALUES 1", "FLOAT 2 BLOB x", "FLOAT -1", "HALF 1"):
        assert wire.ask(f"AI.TENSORSET {key} {words}").startswith(b"-ERR ")

    assert direct.ask(f"GET {key}") == before
    assert wire.ask(f"TTL {key}") == integer(100)


@pytest.mark.parametrize("words", ["", "META", "BLOB", "VALUES", "META VALUES"])
def test_without_a_tensor_there_is_nothing_to_get(wire: Connection, key: str, words: str):
    assert wire.ask(f"AI.TENSORGET {key} {words}") == MISSING


def test_the_key_is_looked_at_before_the_words_behind_it(wire: Connection, key: str):
    """Where there are both errors, RedisAI tells of the key."""
    assert wire.ask(f"AI.TENSORGET {key} FORM") == MISSING
    wire.ask(f"SET {key} text")
    assert wire.ask(f"AI.TENSORGET {key} FORM") == WRONGTYPE
    assert wire.ask(f"AI.TENSORSET {key} HALF") == error("ERR wrong number of arguments for 'ai.tensorset' command")
    assert wire.ask(f"AI.TENSORSET {key} HALF -1") == WRONGTYPE


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("FORM", "ERR unsupported data format"),
        ("BLOB VALUES", "ERR both BLOB and VALUES specified"),
        ("VALUES BLOB", "ERR both BLOB and VALUES specified"),
        ("META FORM", "ERR unsupported data format"),
        ("BLOB VALUES META", "ERR wrong number of arguments for 'ai.tensorget' command"),
    ],
)
def test_forms_that_are_none(wire: Connection, key: str, words: str, text: str):
    wire.ask(f"AI.TENSORSET {key} FLOAT 1")

    assert wire.ask(f"AI.TENSORGET {key} {words}") == error(text)


# -- keys that hold something else ----------------------------------------------------------------

FOREIGN = {
    "a string": "SET {} text",
    "a string of a header's length": f"SET {{}} {'x' * 48}",
    "an integer": "SET {} 7",
    "a hash": "HSET {} field value",
    "a list": "RPUSH {} element",
    "a set": "SADD {} member",
    "a sorted set": "ZADD {} 1 member",
    "a stream": "XADD {} * field value",
}


@pytest.mark.parametrize("held", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("command", ["GET {}", "GET {} META", "GET {} VALUES", "SET {} INT8 1", "SET {} INT8 200000"])
def test_another_kind_of_key_stays_as_it_is(wire: Connection, direct: Connection, key: str, held: str, command: str):
    direct.ask(held.format(key))
    before = direct.ask(f"DUMP {key}")

    assert wire.ask(f"AI.TENSOR{command.format(key)}") == WRONGTYPE
    assert direct.ask(f"DUMP {key}") == before


@pytest.mark.parametrize("spoil", ["APPEND {} x", "SETRANGE {} 200 x", "SET {} short"])
def test_a_tensor_that_somebody_wrote_into_is_none_any_more(wire: Connection, direct: Connection, key: str, spoil: str):
    wire.ask(f"AI.TENSORSET {key} FLOAT 2")

    direct.ask(spoil.format(key))

    assert wire.ask(f"AI.TENSORGET {key}") == WRONGTYPE
    assert wire.ask(f"AI.TENSORGET {key} VALUES") == WRONGTYPE


# -- between MULTI and EXEC -----------------------------------------------------------------------


def in_transaction(wire: Connection, *commands: str) -> bytes:
    """The elements of EXEC's reply, one behind the other."""
    wire.send("MULTI", *commands, "EXEC")
    *queued, answer = wire.replies(len(commands) + 2)
    assert queued == [OK, *[b"+QUEUED\r\n"] * len(commands)]
    head, _, rest = answer.partition(b"\r\n")
    assert head == b"*%d" % len(commands)
    return rest


def test_inside_a_transaction_every_get_sees_the_set_before_it(wire: Connection, key: str):
    sets_and_gets = [
        command for i in range(3) for command in (f"AI.TENSORSET {key} INT8 1 VALUES {i}", f"AI.TENSORGET {key}")
    ]

    answers = in_transaction(wire, *sets_and_gets)

    assert answers == b"".join(OK + tensor("INT8", (1,), bytes([i])) for i in range(3))


def test_inside_a_transaction_errors_stand_in_their_places(wire: Connection, key: str):
    answers = in_transaction(
        wire,
        f"AI.TENSORGET {key}",
        f"AI.TENSORSET {key} INT8 1 VALUES x",
        f"EXISTS {key}",
        f"AI.TENSORSET {key} INT8 1 VALUES 1",
        f"AI.TENSORGET {key} FORM",
    )

    assert answers == MISSING + BAD_VALUE + integer(0) + OK + error("ERR unsupported data format")


@pytest.mark.parametrize("ttl", [None, 100])
def test_inside_a_transaction_a_string_gets_back_its_value_and_its_time_to_live(
    wire: Connection, key: str, ttl: int | None
):
    """It can't be looked at before EXEC."""
    wire.ask(f"SET {key} text")
    if ttl:
        wire.ask(f"EXPIRE {key} {ttl}")

    assert in_transaction(wire, f"AI.TENSORSET {key} INT8 1 VALUES 1") == WRONGTYPE

    assert wire.ask(f"GET {key}") == bulk("text")
    assert wire.ask(f"TTL {key}") == integer(ttl or -1)


def test_inside_a_transaction_the_key_comes_before_the_words_too(wire: Connection, key: str):
    wire.ask(f"SET {key} text")

    assert in_transaction(wire, f"AI.TENSORSET {key} INT8 1 VALUES x") == WRONGTYPE
