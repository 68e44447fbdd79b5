"""
Hashes that look like models or scripts but that no AI command wrote: an error for that key, nothing for anybody else.

Hypothesis takes the hash of a real model or script and spoils it: fields go, or get bytes of any kind, numbers of any
size, JSON of any type. Every AI command is sent at the key. Each gets one reply in time, none of them is a bug's, and
the other models are listed and answer as before.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redisai_engine.protocol.replies import command
from redisai_engine.redis import store
from support.connection import Connection, connected, encoded
from support.gateway import Pair, model_blob, predict, prediction, store_model
from support.replies import OK
from support.servers import Server, start_engine, start_redis

EVIL, GOOD, GOOD_SCRIPT = "evil", "good", "good:script"
FAULT = "the engine failed on this command"
HAS_TORCH = importlib.util.find_spec("torch") is not None
BLOB = model_blob("Add")

REQUESTS: list[bytes] = [
    *(prediction(EVIL, 1, 2), prediction(EVIL, 1, 2)),
    *map(
        encoded,
        (
            f"AI.MODELGET {EVIL} META",
            f"AI.MODELGET {EVIL}",
            f"AI.MODELGET {EVIL} BLOB",
            f"AI._MODELID {EVIL}",
            f"AI.MODELEXECUTE {EVIL} INPUTS 2 a b OUTPUTS 1 y TIMEOUT 200",
            f"AI.MODELRUN {EVIL} TIMEOUT 200 INPUTS a b OUTPUTS y",
            f"AI.INFO {EVIL}",
            f"AI.INFO {EVIL} RESETSTAT",
            f"AI.SCRIPTGET {EVIL}",
            f"AI.SCRIPTEXECUTE {EVIL} f INPUTS 1 a OUTPUTS 1 y TIMEOUT 200",
            f"AI.SCRIPTRUN {EVIL} f TIMEOUT 200 INPUTS a OUTPUTS y",
            f"AI.TENSORGET {EVIL} META",
            f"TYPE {EVIL}",
            "AI._MODELSCAN",
            "AI._SCRIPTSCAN",
            "SCAN 0 TYPE AI__MODEL COUNT 1000",
            "MULTI",
            f"AI.MODELGET {EVIL}",
            f"AI._MODELID {EVIL}",
            f"AI.SCRIPTGET {EVIL}",
            f"AI.INFO {EVIL}",
            "AI._MODELSCAN",
            "EXEC",
        ),
    ),
]

MODELSCAN = REQUESTS.index(encoded("AI._MODELSCAN"))

MODEL = {**json.loads(store.model_fields(store.ModelInfo("ONNX", "CPU", blob_size=len(BLOB)), BLOB)[5]), "id": "f" * 16}
SCRIPT = {"device": "CPU", "tag": "", "entry_points": ["f"], "id": "e" * 16}
SOURCE = b"def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0]\n"

MODEL_HASH = {store.MARKER: b"1", store.ID: b"f" * 16, store.META: b"", b"ai.model:blob:0": BLOB}
SCRIPT_HASH = {
    store.SCRIPT_MARKER: b"1",
    store.SCRIPT_ID: b"e" * 16,
    store.SCRIPT_META: b"",
    store.SCRIPT_SOURCE: SOURCE,
}
KINDS = {"model": (MODEL_HASH, store.META, MODEL), "script": (SCRIPT_HASH, store.SCRIPT_META, SCRIPT)}

numbers = st.sampled_from(
    [-1, 0, 1, 5, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**400, -(2**62), 1.5, 1e308, float("nan")]
)
scalars = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(["\ud800", "\udcff", "GPU:99", "NONE"])
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=2))
rubbish = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"", b"null", b"[]", b"{}", b"7", b"[" * 100_000, b'{"id":' * 5_000, b"9" * 10_000, b"\xff", b"x" * 2_000_000]
    ),
)


@st.composite
def hashes(draw: st.DrawFn, kind: str) -> dict[bytes, bytes]:
    """The hash of a model or script, spoiled in its description, in its fields, or in both."""
    fields, described, description = KINDS[kind]
    whole: dict[str, Any] = dict(description)
    for name in draw(st.lists(st.sampled_from([*whole, "unknown"]), max_size=3, unique=True)):
        if draw(st.integers(0, 3)):
            whole[name] = draw(values)
        else:
            whole.pop(name, None)
    hash_ = {**fields, described: json.dumps(whole).encode()}
    for name in draw(st.lists(st.sampled_from([*hash_, b"ai.model:blob:1"]), max_size=2, unique=True)):
        if draw(st.integers(0, 3)):
            hash_[name] = draw(rubbish)
        else:
            hash_.pop(name, None)
    return hash_


@pytest.fixture(scope="module")
def own_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    redis = start_redis(tmp_path_factory.mktemp("foreign"))
    engine = start_engine(tmp_path_factory.mktemp("reader"), "--redis", redis.url)
    pair = Pair(engine, redis)
    with connected(engine) as wire:
        wire.socket.settimeout(100)  # PyTorch is imported here
        store_model(wire, GOOD)
        if HAS_TORCH:
            stored = ("AI.SCRIPTSTORE", GOOD_SCRIPT, "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", SOURCE)
            assert wire.ask(*stored) == OK
        for name in "ab":
            wire.ask(f"AI.TENSORSET {name} FLOAT 1 VALUES 1")
    yield pair
    engine.stop()
    redis.stop()


@pytest.fixture(scope="module")
def ends(own_pair: Pair) -> Iterator[tuple[Connection, Connection]]:
    with connected(own_pair.engine) as wire, connected(own_pair.redis) as direct:
        wire.socket.settimeout(100)  # scripts are compiled, on a machine that may be busy
        yield wire, direct


def replace(direct: Connection, hash_: dict[bytes, bytes]) -> None:
    direct.ask("DEL", EVIL)
    if hash_:
        direct.send(command(b"HSET", EVIL.encode(), *(word for pair in hash_.items() for word in pair)))
        direct.reply()


def check(pair: Pair, wire: Connection) -> None:
    """Send every command at the key, and check that each has one reply that is no fault, and that others go on."""
    wire.send(*REQUESTS, "ECHO end")
    answers = wire.replies(len(REQUESTS) + 1)
    assert answers[-1] == b"$3\r\nend\r\n"
    assert not [answer for answer in answers if FAULT.encode() in answer], pair.engine.log.read_text()[-3000:]
    assert GOOD.encode() in answers[MODELSCAN]
    assert predict(wire, GOOD, 2, 3) == 5.0


KEPT = settings(deadline=None, suppress_health_check=list(HealthCheck))


class TestNamed:
    """What the error says, and that it is only the key's own."""

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (
                {"blob_size": 2**62},
                "has a bad blob_size: it is 4611686018427387904, but must be a whole number from 0 to 4294967296",
            ),
            ({"blob_size": -1}, "has a bad blob_size: it is -1, but must be a whole number from 0 to 4294967296"),
            (
                {"batch_size": "5"},
                "has a bad batch_size: it is '5', but must be a whole number from 0 to 9223372036854775807",
            ),
            ({"inputs": [1]}, "has a bad inputs: it is [1], but must be a list of texts"),
            ({"device": 5}, "has a bad device: it is 5, but must be text"),
            ({"device": "TPU"}, "has a bad device: it is 'TPU', but must be CPU, CPU:n, GPU or GPU:n"),
            (
                {"id": "0" * 16},
                "has a bad id: it is '0000000000000000', but must be that of the field beside it, b'ffffffffffffffff'",
            ),
        ],
        ids=str,
    )
    def test_a_bad_field(self, ends: tuple[Connection, Connection], change: dict[str, Any], problem: str) -> None:
        wire, direct = ends
        replace(direct, {**MODEL_HASH, store.META: json.dumps({**MODEL, **change}).encode()})

        expected = f"-ERR the key can't be read as a model or script: its description {problem}\r\n".encode()
        assert wire.ask(f"AI.MODELGET {EVIL} META") == expected
        assert wire.ask_raw(prediction(EVIL, 1, 2)) == expected

    def test_a_field_of_a_newer_version_is_ignored(self, ends: tuple[Connection, Connection]) -> None:
        wire, direct = ends
        replace(direct, {**MODEL_HASH, store.META: json.dumps({**MODEL, "isolate": True}).encode()})

        assert predict(wire, EVIL, 1, 2) == 3.0

    @pytest.mark.parametrize(
        ("blob", "problem"),
        [
            (None, "is missing"),
            (BLOB[:-1], f"has {len(BLOB) - 1} bytes, but its description announces {len(BLOB)}"),
        ],
        ids=["missing", "short"],
    )
    @pytest.mark.parametrize("inside", ["MULTI", ""])
    def test_a_blob_of_another_size_than_announced(
        self, ends: tuple[Connection, Connection], blob: bytes | None, problem: str, inside: str
    ) -> None:
        wire, direct = ends
        new = {**MODEL, "id": store.new_id()}  # loaded by no other test
        hash_ = {**MODEL_HASH, store.ID: new["id"].encode(), store.META: json.dumps(new).encode()}
        hash_[b"ai.model:blob:0"] = blob
        replace(direct, {name: value for name, value in hash_.items() if value is not None})

        expected = f"-ERR the key can't be read as a model or script: its field ai.model:blob:0 {problem}\r\n".encode()
        if inside:
            wire.send("MULTI", f"AI.MODELGET {EVIL} BLOB", "EXEC")
            assert wire.replies(3)[2] == b"*1\r\n" + expected
        else:
            assert wire.ask(f"AI.MODELGET {EVIL} BLOB") == expected
            assert wire.ask_raw(prediction(EVIL, 1, 2)) == expected


class TestLarge:
    """A field that no command stores is not even kept in memory."""

    @pytest.mark.parametrize("name", [store.MARKER, store.ID, store.META, b"ai.model:blob:0"], ids=bytes.decode)
    def test_a_field_of_a_hundred_megabytes(
        self, own_pair: Pair, ends: tuple[Connection, Connection], name: bytes
    ) -> None:
        wire, direct = ends
        replace(direct, {**MODEL_HASH, store.META: json.dumps(MODEL).encode()})
        direct.ask("SET", "large", "")
        direct.ask("SETRANGE", "large", 100 * 2**20, "x")
        moved = "redis.call('HSET', KEYS[1], ARGV[1], redis.call('GET', KEYS[2]))"
        assert direct.ask("EVAL", moved, 2, EVIL, "large", name) == b"$-1\r\n"
        direct.ask("DEL", "large")
        before = peak_bytes(own_pair.engine)

        for request in REQUESTS[:17]:
            wire.ask_raw(request)

        assert peak_bytes(own_pair.engine) - before < 50 * 2**20
        assert predict(wire, GOOD, 2, 3) == 5.0
        direct.ask("DEL", EVIL)


def peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class TestGenerated:
    @settings(KEPT, max_examples=150)
    @given(hashes("model"))
    @example({**MODEL_HASH, store.META: json.dumps({**MODEL, "blob_size": 2**62}).encode()})
    @example({**MODEL_HASH, store.META: json.dumps({**MODEL, "batch_size": "5"}).encode()})
    def test_models(self, own_pair: Pair, ends: tuple[Connection, Connection], hash_: dict[bytes, bytes]) -> None:
        wire, direct = ends
        replace(direct, hash_)

        check(own_pair, wire)

    @settings(KEPT, max_examples=100)
    @given(hashes("script"))
    def test_scripts(self, own_pair: Pair, ends: tuple[Connection, Connection], hash_: dict[bytes, bytes]) -> None:
        wire, direct = ends
        replace(direct, hash_)

        check(own_pair, wire)

    @pytest.mark.parametrize(
        "make", ["SET evil text", "RPUSH evil a", "SADD evil a", "ZADD evil 1 a", "XADD evil * a b"]
    )
    def test_keys_of_other_types(self, own_pair: Pair, ends: tuple[Connection, Connection], make: str) -> None:
        wire, direct = ends
        direct.ask("DEL", EVIL)
        direct.ask(make)

        check(own_pair, wire)
