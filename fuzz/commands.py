"""
Sequences of commands, right and wrong: each gets exactly one reply, and nobody else notices.

A sequence takes a well-formed command for each row of the engine's table and spoils it: words are left out, doubled,
swapped or replaced by odd ones. Among them are plain commands that damage what the engine has stored.
"""

from __future__ import annotations

import importlib.util
import struct

from hypothesis import strategies as st

from redisai_engine.protocol.requests import encode
from redisai_engine.redis import store
from support import dumps
from support.connection import Connection
from support.gateway import model_blob

Words = list[bytes]

HAS_TORCH = importlib.util.find_spec("torch") is not None
NEEDS_TORCH = {b"AI.SCRIPTSTORE", b"AI.SCRIPTSET"}  # without torch they do little more than report that it is missing
MARK = b"the end of the sequence"

SOURCE = b"def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0]\n"
OLD_SOURCE = b"def f(a):\n    return a\n"

# A well-formed request for every command; `m` is a model, `t` and `u` are tensors, `c` is a script.
SEEDS: list[Words] = [
    b"AI.TENSORSET t FLOAT 2 VALUES 1 2".split(),
    b"AI.TENSORSET t INT8 3 BLOB abc".split(),
    b"AI.TENSORSET t STRING 2 VALUES a b".split(),
    b"AI.TENSORGET t META VALUES".split(),
    b"AI.TENSORGET t BLOB".split(),
    [*b"AI.MODELSTORE m ONNX CPU TAG v BATCHSIZE 4 MINBATCHSIZE 2 MINBATCHTIMEOUT 1 BLOB".split(), model_blob("Add")],
    [*b"AI.MODELSTORE m ONNX CPU INPUTS 2 a b OUTPUTS 1 y BLOB".split(), model_blob("Mul")],
    [*b"AI.MODELSET m ONNX CPU TAG v INPUTS a b OUTPUTS y BLOB".split(), model_blob("Add")],
    b"AI.MODELGET m META BLOB".split(),
    b"AI.MODELDEL m".split(),
    b"AI._MODELSCAN".split(),
    b"AI._MODELID m".split(),
    b"AI.MODELSTREAM m TIMEOUT 1000 STRING 1 VALUES a".split(),
    b"AI.STREAMNEXT m".split(),
    b"AI.STREAMEND m".split(),
    b"AI.MODELEXECUTE m INPUTS 2 t u OUTPUTS 1 y TIMEOUT 1000".split(),
    b"AI.MODELRUN m TIMEOUT 1000 INPUTS t u OUTPUTS y".split(),
    [*b"AI.SCRIPTSTORE c CPU TAG v ENTRY_POINTS 1 f SOURCE".split(), SOURCE],
    [*b"AI.SCRIPTSET c CPU TAG v SOURCE".split(), OLD_SOURCE],
    b"AI.SCRIPTGET c META SOURCE".split(),
    b"AI.SCRIPTDEL c".split(),
    b"AI._SCRIPTSCAN".split(),
    b"AI.SCRIPTEXECUTE c f KEYS 1 t INPUTS 2 t u ARGS 1 x OUTPUTS 1 y TIMEOUT 1000".split(),
    b"AI.SCRIPTRUN c f TIMEOUT 1000 INPUTS t $ u OUTPUTS y".split(),
    b"AI.DAGEXECUTE LOAD 2 t u PERSIST 1 y TIMEOUT 1000 |> AI.MODELEXECUTE m INPUTS 2 t u OUTPUTS 1 y".split(),
    b"AI.DAGEXECUTE ROUTING t |> AI.SCRIPTEXECUTE c f INPUTS 1 t OUTPUTS 1 y |> AI.TENSORGET y VALUES".split(),
    b"AI.DAGEXECUTE_RO ROUTING m |> AI.TENSORSET a FLOAT 1 VALUES 1 |> AI.TENSORSET b FLOAT 1 BLOB 1234 "
    b"|> AI.MODELEXECUTE m INPUTS 2 a b OUTPUTS 1 y |> AI.TENSORGET y META BLOB".split(),
    b"AI.DAGRUN LOAD 2 t u PERSIST 1 y |> AI.MODELRUN m INPUTS t u OUTPUTS y |> AI.TENSORGET y VALUES".split(),
    b"AI.DAGRUN_RO LOAD 1 t TIMEOUT 1000 |> AI.SCRIPTRUN c f INPUTS t OUTPUTS y |> AI.TENSORGET y META".split(),
    b"AI.INFO m RESETSTAT".split(),
    b"AI.CONFIG GET MODEL_CHUNK_SIZE".split(),
    b"AI.CONFIG MODEL_CHUNK_SIZE 100".split(),
    b"AI.CONFIG LOADBACKEND TORCH redisai_torch.so".split(),
    b"AI.CONFIG BACKENDSPATH /nowhere".split(),
]

# Every number makes a tensor either of a few kilobytes or beyond Redis' limit, and nothing loads TensorFlow.
ODD_WORDS = [
    *(
        b"",
        b"0",
        b"-1",
        b"1",
        b"2",
        b"3",
        b"1000000000",
        b"9223372036854775807",
        b"9223372036854775808",
        b"1.5",
        b"nan",
    ),
    *(b"1e999", b"0x10", b" 1", b"+1", b"\xff\xfe", b"a\0b", b"\r\n", b"|>", b"$", b"%s%n", b"x" * 300),
    *(b"m", b"t", b"u", b"c", b"h", b"s", b"absent", b"y", b"a", b"b", b"{tag}"),
    *(b"FLOAT", b"DOUBLE", b"INT64", b"UINT8", b"BOOL", b"STRING", b"float", b"COMPLEX", b"ONNX", b"TORCH", b"CPU"),
    *(b"GPU", b"CPU:1", b"GPU:x", b"TAG", b"BATCHSIZE", b"MINBATCHSIZE", b"MINBATCHTIMEOUT", b"INPUTS", b"OUTPUTS"),
    *(b"BLOB", b"VALUES", b"META", b"SOURCE", b"ENTRY_POINTS", b"KEYS", b"ARGS", b"TIMEOUT", b"LOAD", b"PERSIST"),
    *(b"ROUTING", b"RESETSTAT", b"GET", b"AI.TENSORGET", b"AI.MODELEXECUTE", b"AI.SCRIPTEXECUTE", b"AI.DAGEXECUTE"),
]

_META = b'{"backend": "ONNX", "device": "CPU", "inputs": ["a", "b"], "outputs": ["y"], "blob_size": %b, "id": "0"}'

# Well-formed plain commands on the engine's keys. What is stored may have been written by anybody.
DAMAGES: list[Words] = [
    [b"SETRANGE", b"t", b"8", b"\xff"],
    [b"SETRANGE", b"t", b"10", b"\xff\xff"],
    [b"SETRANGE", b"t", b"16", b"\xff" * 8],
    [b"APPEND", b"t", b"abc"],
    [b"SET", b"t", store.TENSOR_MAGIC + b"\0" * 40],
    [b"SET", b"t", store.TENSOR_MAGIC + struct.pack("<BBHI", 0, 65, 0, 544) + struct.pack("<q", 1) * 66],
    *([b"HSET", b"m", store.META, _META % size] for size in (b"-1", b"0", b"4611686018427387904", b'"x"', b"1e400")),
    *([b"HSET", b"m", store.META, meta] for meta in (b"", b"{}", b"[]", b"null", b"[" * 5000, b'{"inputs": 5}')),
    [b"HSET", b"c", store.SCRIPT_META, b"{}"],
    [b"HSET", b"m", store.ID, b"\xff"],
    [b"HDEL", b"m", store.META],
    [b"HDEL", b"m", b"ai.model:blob:0"],
    [b"HSET", b"m", b"ai.model:blob:0", b"\x08\x08"],
    [b"HSET", b"n", store.MARKER, b"1"],
    [b"HSET", b"n", store.SCRIPT_MARKER, b"1"],
    b"COPY m n REPLACE".split(),
    b"RENAME m n".split(),
    b"DEL m t".split(),
    b"EXPIRE m 0".split(),
    [b"RESTORE", b"r", b"0", dumps.float_tensor((2,), b"12345678")],
    [b"RESTORE", b"r", b"0", dumps.float_tensor((1,) * 65, b"1234")],
    [b"RESTORE", b"r", b"0", dumps.float_tensor((2**62, 2**62), b"")],
    [b"RESTORE", b"r", b"0", dumps.model("ONNX", model_blob("Add"))],
    [b"RESTORE", b"r", b"0", dumps.script("def f(a):\n    return a\n", "f")],
    [b"AI.TENSORSET", b"t", b"FLOAT", *[b"1"] * 65, b"BLOB", b"1234"],
    [b"AI.TENSORSET", b"t", b"FLOAT", *[b"1"] * 33, b"VALUES", b"1"],
    [b"EVAL", b"local t={} for i=1,900 do t={t} end return t", b"0"],
    [b"EVAL", b"return redis.call('GET', KEYS[1])", b"1", b"t"],
    *(words.split() for words in (b"MULTI", b"EXEC", b"DISCARD", b"WATCH t", b"RESET", b"HELLO 3", b"HELLO 2")),
    *(words.split() for words in (b"SELECT 1", b"SELECT 0", b"CLIENT INFO", b"TYPE m", b"SCAN 0", b"COMMAND COUNT")),
]


def spoil(words: Words, how: str, place: int, other: int, odd: bytes) -> Words:
    """Change one place. The name stays, so that the command remains one of the table's."""
    if len(words) < 2:
        return [*words, odd]
    place = 1 + place % (len(words) - 1)
    other = 1 + other % (len(words) - 1)
    spoiled = list(words)
    if how == "replace":
        spoiled[place] = odd
    elif how == "insert":
        spoiled.insert(place, odd)
    elif how == "leave out":
        del spoiled[place]
    elif how == "cut off":
        del spoiled[place:]
    elif how == "double":
        spoiled[place:place] = words[other:]
    elif how == "swap":
        spoiled[place], spoiled[other] = spoiled[other], spoiled[place]
    elif how == "change case":
        spoiled[place] = words[place].swapcase()
    return spoiled


def parked(words: Words) -> Words:
    """Send a model with MINBATCHSIZE to a key that no command runs: its runs would rightly wait forever."""
    return [words[0], b"batched", *words[2:]] if b"MINBATCHSIZE" in map(bytes.upper, words) else words


def possible(words: Words) -> bool:
    return HAS_TORCH or words[0].upper() not in NEEDS_TORCH


@st.composite
def ai_commands(draw: st.DrawFn) -> Words:
    words = draw(st.sampled_from(SEEDS))
    if draw(st.booleans()):
        words = [words[0].lower(), *words[1:]]
    place = st.integers(0, 40)
    hows = st.sampled_from(["replace", "insert", "leave out", "cut off", "double", "swap", "change case"])
    for _ in range(draw(st.integers(0, 3))):
        words = spoil(words, draw(hows), draw(place), draw(place), draw(st.sampled_from(ODD_WORDS)))
    return parked(words)


def sequences() -> st.SearchStrategy[bytes]:
    """Return streams of up to twelve commands, as a client sends them."""
    commands = ai_commands().filter(possible) | st.sampled_from(DAMAGES)
    return st.lists(commands, min_size=1, max_size=12).map(lambda some: b"".join(map(encode, some)))


def make_keys(wire: Connection) -> None:
    """Create keys of every kind, under the names that the seeds use."""
    wire.send(
        "FLUSHALL",
        ("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", model_blob("Add")),
        "AI.TENSORSET t FLOAT 1 VALUES 1",
        "AI.TENSORSET u FLOAT 1 VALUES 2",
        "HSET h f v",
        "SET s text",
        "AI.CONFIG MODEL_CHUNK_SIZE 1000000",
    )
    assert all(reply[:1] in b"+:" for reply in wire.replies(7))


def warm(wire: Connection) -> None:
    """Let the engine import torch, which takes seconds."""
    if HAS_TORCH:
        assert wire.ask("AI.SCRIPTSET", "c", "CPU", "SOURCE", OLD_SOURCE) == b"+OK\r\n"


def send(wire: Connection, stream: bytes) -> None:
    """Send a sequence in one write, and read replies up to the mark behind it. It may end the connection."""
    make_keys(wire)
    wire.send(stream, "DISCARD", ("ECHO", MARK))
    found = b""
    while not found.endswith(MARK + b"\r\n"):  # replies may be nested more deeply than a test can read them
        received = wire.socket.recv(1 << 20)
        assert received, f"the connection ended behind {found[-80:]!r}"
        found = (found + received)[-1000:]
    assert wire.is_quiet()
