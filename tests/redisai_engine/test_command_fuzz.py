"""
AI commands of every kind, right and wrong: each gets exactly one reply, and every error is a Redis error.

Hypothesis takes a well-formed command for each row of the table and spoils it: words are left out, doubled, swapped or
replaced by odd ones. The commands go to a real engine in one write, alone and inside MULTI, in RESP2 and in RESP3. The
PING behind them shows whether the connection is still in step. The engine's log shows exceptions that are no Redis
errors.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # enters all commands in the table
from redisai_engine.commands.table import COMMANDS
from support.connection import Connection, connected, encoded
from support.gateway import Pair, model_blob
from support.servers import start_engine, start_redis

pytestmark = pytest.mark.slow

Words = list[bytes]

EXAMPLES = 1200  # about 20 seconds
HAS_TORCH = importlib.util.find_spec("torch") is not None
FAULT = "the engine failed on this command"

SOURCE = b"def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0]\n"
OLD_SOURCE = b"def f(a):\n    return a\n"
NEEDS_TORCH = {b"AI.SCRIPTSTORE", b"AI.SCRIPTSET"}  # without torch they do little more than report that it is missing

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


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine that only this test uses, and the Redis behind it."""
    redis = start_redis(tmp_path_factory.mktemp("fuzzed-redis"))
    engine = start_engine(tmp_path_factory.mktemp("fuzzed"), "--redis", redis.url)
    if HAS_TORCH:
        engine.client().execute_command("AI.SCRIPTSET", "c", "CPU", "SOURCE", OLD_SOURCE)  # imports torch: seconds
    yield Pair(engine, redis)
    engine.stop()
    redis.stop()


@pytest.fixture(scope="module")
def new_faults(fuzzed: Pair) -> Callable[[], list[str]]:
    """Return a function that returns what the engine has logged about exceptions since its last call."""
    read = 0

    def since() -> list[str]:
        nonlocal read
        text = fuzzed.engine.log.read_text()
        new, read = text[read:], len(text)
        return re.findall(r".*(?:bug in the engine|Traceback).*", new)

    return since


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


def refused(reply: bytes) -> bool:
    return reply[:1] == b"-"


SEQUENCES = st.lists(ai_commands(), min_size=1, max_size=8)


def test_every_command_has_a_seed():
    assert {seed[0] for seed in SEEDS} == set(COMMANDS)


@given(commands=SEQUENCES, protocol=st.sampled_from([2, 3]), transaction=st.booleans())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(commands=SEEDS, protocol=2, transaction=False)
@example(commands=SEEDS, protocol=3, transaction=True)
def test_every_command_gets_one_reply(
    fuzzed: Pair,
    new_faults: Callable[[], list[str]],
    commands: list[Words],
    protocol: int,
    transaction: bool,  # noqa: FBT001  # drawn
):
    if not HAS_TORCH:
        commands = [words for words in commands if words[0].upper() not in NEEDS_TORCH]
    with connected(fuzzed.engine) as wire:
        make_keys(wire)
        around = ([b"MULTI"], [b"EXEC"]) if transaction else ([b"ECHO", b"["], [b"ECHO", b"]"])
        wire.ask("HELLO", protocol)
        wire.send(b"".join(encoded(tuple(words)) for words in (around[0], *commands, around[1], [b"PING"])))
        first, *replies, last, pong = wire.replies(len(commands) + 3)

        assert pong == b"+PONG\r\n"
        assert not refused(first)
        if transaction:
            assert {reply for reply in replies if not refused(reply)} <= {b"+QUEUED\r\n"}
            assert refused(last) == any(map(refused, replies))
        else:
            assert last == b"$1\r\n]\r\n"
        assert FAULT.encode() not in b"".join((*replies, last))
        assert new_faults() == []
        assert wire.is_quiet()


def test_redis_still_has_one_connection_for_each_client(fuzzed: Pair):
    """None of the spoiled commands leaves a connection open: only the engine's own and this test's remain."""
    clients = fuzzed.redis.client().client_list()

    assert len(clients) <= 4, clients
