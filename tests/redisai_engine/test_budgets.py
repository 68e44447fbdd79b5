"""What one command may take: a small request makes neither a large reply nor large tensors, and both have a limit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.connection import Connect, Connection, encoded
from support.gateway import Pair, predict, store_model, store_onnx
from support.servers import start_engine, start_redis

MIB = 2**20
TENSORS, REPLY = 16 * MIB, 8 * MIB  # the limits of the engine below
Words = tuple[bytes | str | int, ...]
COUNTS = ("batch_size", "min_batch_size", "min_batch_timeout_ms", "blob_size")
MODEL_META = {"backend": "ONNX", "device": "CPU", "inputs": [], "outputs": [], **dict.fromkeys(COUNTS, 0)}
SCRIPT_META = {"device": "CPU", "entry_points": []}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine with low limits."""
    redis = start_redis(tmp_path_factory.mktemp("behind"))
    limits = ("--tensor-limit", str(TENSORS), "--reply-limit", str(REPLY), "--request-limit", str(64 * MIB))
    engine = start_engine(tmp_path_factory.mktemp("front"), "--redis", redis.url, *limits)
    yield Pair(engine, redis)
    engine.stop()
    redis.stop()


@pytest.fixture
def wire(narrow: Pair, connect: Connect) -> Connection:
    wire = connect(narrow.engine)
    store_model(wire, "m")
    return wire


def dag(*operations: Words, routing: str = "m") -> Words:
    return ("AI.DAGEXECUTE_RO", "ROUTING", routing, *(word for words in operations for word in ("|>", *words)))


def onnx_of(size: int) -> bytes:
    """Return a model of about that many bytes, at least."""
    from onnx import TensorProto, helper

    from support.tiny_models import onnx_model

    weights = helper.make_tensor("w", TensorProto.UINT8, [size], bytes(size), raw=True)
    nodes = [helper.make_node("Gather", ["w", "x"], ["y"])]
    ends = {"x": (TensorProto.INT64, [1])}, {"y": (TensorProto.UINT8, [1])}
    return onnx_model(nodes, *ends, initializers=[weights])


def filler() -> bytes:
    """Return a model that makes as many zeros as its input says."""
    from onnx import TensorProto, helper

    from support.tiny_models import onnx_model

    node = helper.make_node("ConstantOfShape", ["n"], ["y"])
    return onnx_model([node], {"n": (TensorProto.INT64, [1])}, {"y": (TensorProto.FLOAT, ["k"])})


def run(count: int, output: str) -> list[Words]:
    """Operations that make that many FLOAT zeros."""
    return [
        ("AI.TENSORSET", f"n{output}", "INT64", 1, "VALUES", count),
        ("AI.MODELEXECUTE", "filler", "INPUTS", 1, f"n{output}", "OUTPUTS", 1, output),
    ]


class TestReplies:
    """A reply that would be too large is an error before it is made. The error names what it takes, and the limit."""

    @pytest.mark.parametrize("form", [(), ("BLOB",), ("META", "BLOB"), ("VALUES",), ("META", "VALUES")])
    def test_a_tensor(self, wire: Connection, form: tuple[str, ...]):
        wire.ask("AI.TENSORSET", "t", "UINT8", REPLY + 1)

        check_refused(wire.ask("AI.TENSORGET", "t", *form), "reply", REPLY)
        assert wire.ask("AI.TENSORGET t META").startswith(b"*4\r\n")

    @pytest.mark.parametrize("count", [2, 100])
    def test_one_tensor_many_times(self, wire: Connection, count: int):
        get = ("AI.TENSORGET", "t", "BLOB")

        check_refused(wire.ask(*dag(("AI.TENSORSET", "t", "UINT8", REPLY - 1), *[get] * count)), "reply", REPLY)

    def test_one_value_is_many_bytes(self, wire: Connection):
        """Whether text fits shows only while it is made."""
        wire.ask("AI.TENSORSET", "t", "DOUBLE", 400_000, "BLOB", b"\x9a\x99\x99\x99\x99\x99\xb9\x3f" * 400_000)

        check_refused(wire.ask("AI.TENSORGET", "t", "VALUES"), "reply", REPLY)

    @pytest.mark.parametrize("warm", [0, 3])
    def test_an_output_of_a_model(self, wire: Connection, warm: int):
        """The fast path counts as well."""
        store_onnx(wire, "filler", filler())

        def ask(count: int) -> bytes:
            blob = count.to_bytes(8, "little")
            made = ("AI.TENSORSET", "n", "INT64", 1, "BLOB", blob)
            execute = ("AI.MODELEXECUTE", "filler", "INPUTS", 1, "n", "OUTPUTS", 1, "y")
            return wire.ask(*dag(made, execute, ("AI.TENSORGET", "y", "META", "BLOB"), routing="filler"))

        for _ in range(warm):
            assert ask(2).startswith(b"*3\r\n")

        check_refused(ask(REPLY // 4 + 1), "reply", REPLY)
        assert len(ask(REPLY // 4 - 100)) > REPLY - 500

    @pytest.mark.parametrize("words", [(), ("BLOB",), ("META", "BLOB")])
    @pytest.mark.parametrize("where", ["alone", "in MULTI"])
    def test_a_model(self, wire: Connection, words: tuple[str, ...], where: str):
        store_onnx(wire, "weights", onnx_of(REPLY + 1))
        get = ("AI.MODELGET", "weights", *words)

        if where == "in MULTI":
            wire.ask("MULTI")
            assert wire.ask(*get) == b"+QUEUED\r\n"
            reply = wire.ask("EXEC").removeprefix(b"*1\r\n")
        else:
            reply = wire.ask(*get)

        check_refused(reply, "reply", REPLY)
        assert wire.ask("AI.MODELGET weights META").startswith(b"*16\r\n")
        store_onnx(wire, "weights", onnx_of(REPLY - 1000))
        assert len(wire.ask(*get)) > REPLY - 1000

    @pytest.mark.parametrize("kind", ["model", "script"])
    def test_a_list_of_keys(self, narrow: Pair, wire: Connection, connect: Connect, kind: str):
        """The tags alone are more than a reply may have."""
        tag, count = "t" * (MIB // 2), 2 * REPLY // MIB + 1
        fields = {"model": MODEL_META, "script": SCRIPT_META}[kind]
        direct = connect(narrow.redis)
        keys = [f"many:{kind}:{number}" for number in range(count)]
        for key in keys:
            meta = json.dumps({**fields, "id": "abc", "tag": tag})
            direct.ask("HSET", key, f"ai.{kind}", 1, f"ai.{kind}:id", "abc", f"ai.{kind}:meta", meta)

        check_refused(wire.ask(f"AI._{kind.upper()}SCAN"), "reply", REPLY)
        direct.ask("DEL", *keys[:3])
        assert len(wire.ask(f"AI._{kind.upper()}SCAN")) > REPLY - 2 * MIB
        direct.ask("DEL", *keys)

    def test_what_fits_arrives_whole(self, wire: Connection):
        blob = bytes(range(256)) * (REPLY // 512)
        wire.ask("AI.TENSORSET", "t", "UINT8", len(blob), "BLOB", blob)

        assert wire.ask("AI.TENSORGET t BLOB") == b"$%d\r\n%b\r\n" % (len(blob), blob)
        get = wire.ask("AI.DAGRUN_RO LOAD 1 t |> AI.TENSORGET t META BLOB")
        assert get.startswith(b"*1\r\n*6\r\n")
        assert get.endswith(blob + b"\r\n")
        values = wire.ask("AI.TENSORGET t VALUES") if len(blob) < REPLY // 8 else b""
        assert values in (b"", b"*%d\r\n%b" % (len(blob), b"".join(b":%d\r\n" % byte for byte in blob)))

    @pytest.mark.parametrize("dtype", ["UINT8", "FLOAT", "STRING", "BOOL"])
    @pytest.mark.parametrize("form", ["VALUES", "META VALUES"])
    def test_many_values_are_those_of_few(self, wire: Connection, dtype: str, form: str):
        """More values than are encoded in the event loop."""
        count = 40_000
        words = {"FLOAT": "0.5", "STRING": "ab"}.get(dtype, "1")

        assert wire.ask("AI.TENSORSET", "t", dtype, count, "VALUES", *[words] * count) == b"+OK\r\n"
        wire.ask("AI.TENSORSET", "one", dtype, 1, "VALUES", words)
        one = wire.ask(f"AI.TENSORGET one {form}").rpartition(b"*1\r\n")[2]

        reply = wire.ask(f"AI.TENSORGET t {form}")
        assert reply.endswith(b"*%d\r\n" % count + one * count)
        assert reply == wire.ask(f"AI.DAGRUN_RO LOAD 1 t |> AI.TENSORGET t {form}").removeprefix(b"*1\r\n")


class TestTensors:
    """Tensors that a command makes without sent data, reads from Redis, or gets from models are counted together."""

    def test_made_of_nothing(self, wire: Connection):
        made = [("AI.TENSORSET", f"t{i}", "UINT8", TENSORS // 4) for i in range(5)]

        check_refused(wire.ask(*dag(*made)), "tensors", TENSORS)
        assert wire.ask(*dag(*made[:4])) == b"*4\r\n" + b"+OK\r\n" * 4

    def test_sent_ones_are_not_counted(self, wire: Connection):
        sent = [("AI.TENSORSET", f"t{i}", "UINT8", MIB, "BLOB", bytes(MIB)) for i in range(20)]

        assert wire.ask(*dag(*sent)) == b"*20\r\n" + b"+OK\r\n" * 20

    def test_read_from_redis(self, wire: Connection):
        keys = [f"large{i}" for i in range(4)]
        for key in keys:
            wire.ask("AI.TENSORSET", key, "UINT8", TENSORS // 3)

        check_refused(wire.ask("AI.DAGRUN_RO", "LOAD", 4, *keys, "|>", "AI.TENSORGET", keys[0], "META"), "tensors")
        assert wire.ask("AI.DAGRUN_RO", "LOAD", 2, *keys[:2], "|>", "AI.TENSORGET", keys[0], "META")[:1] == b"*"
        assert wire.is_quiet()

    def test_a_key_many_times_is_read_once(self, wire: Connection):
        wire.ask("AI.TENSORSET", "large", "FLOAT", TENSORS // 8)
        get = ("|>", "AI.TENSORGET", "large", "META")

        assert wire.ask("AI.DAGRUN_RO", "LOAD", 50, *["large"] * 50, *get).startswith(b"*1\r\n*4\r\n")
        assert wire.ask("AI.MODELEXECUTE m INPUTS 2 large large OUTPUTS 1 y") == b"+OK\r\n"

    def test_inputs_of_a_run(self, wire: Connection):
        for key in "ab":
            wire.ask("AI.TENSORSET", f"large:{key}", "UINT8", TENSORS - MIB)

        check_refused(wire.ask("AI.MODELEXECUTE m INPUTS 2 large:a large:b OUTPUTS 1 y"), "tensors")
        assert predict(wire, "m", 1, 2) == 3.0

    @pytest.mark.parametrize("at_once", [True, False])
    def test_outputs_of_runs(self, wire: Connection, at_once: bool):  # noqa: FBT001  # a parameter of the test
        store_onnx(wire, "filler", filler())
        made = [operation for i in range(5) for operation in run(TENSORS // 16, f"y{i}")]
        if at_once:
            made.sort(key=lambda words: words[0] != "AI.TENSORSET")

        reply = wire.ask(*dag(*made, routing="filler"))

        assert b"the tensors of this command take" in reply
        assert (
            wire.ask(*dag(*run(TENSORS // 16, "y"), ("AI.TENSORGET", "y", "META"), routing="filler"))[:4] == b"*3\r\n"
        )

    def test_text_takes_more_than_its_bytes(self, wire: Connection):
        """An element of a STRING tensor becomes an object for a model."""
        wire.ask("AI.TENSORSET", "text", "STRING", TENSORS // 32)

        check_refused(wire.ask("AI.MODELEXECUTE m INPUTS 2 text text OUTPUTS 1 y"), "tensors", TENSORS)

    def test_persisted_ones(self, wire: Connection):
        made = [word for i in range(5) for word in ("|>", "AI.TENSORSET", f"p{i}", "UINT8", TENSORS // 4)]
        names = [f"p{i}" for i in range(5)]

        check_refused(wire.ask("AI.DAGEXECUTE", "PERSIST", 5, *names, *made), "tensors", TENSORS)
        assert wire.ask("EXISTS p0") == b":0\r\n"


def test_a_request_has_a_limit(narrow: Pair, connect: Connect):
    """The objects that hold many small arguments count."""
    for request in (
        b"*3\r\n" + b"$30000000\r\n%b\r\n" % bytes(30_000_000) * 3,
        b"*3000000\r\n" + b"$1\r\nx\r\n" * 3_000_000,
    ):
        wire = connect(narrow.engine)
        wire.ask("HELLO 2")
        with contextlib.suppress(OSError):  # it is closed while we are sending
            wire.send(request)

        last = wire.rest()
        assert last == b"" or last.endswith(b"are allowed (see --request-limit)\r\n")


@pytest.mark.slow
def test_a_client_that_reads_slowly_takes_no_copy(new_pair: Callable[..., Pair], connect: Connect, tmp_path: Path):
    """A reply of the same tensor many times is written step by step, out of the one tensor."""
    import psutil

    pair = new_pair("--reply-limit", str(512 * MIB))
    wire = connect(pair.engine)
    predict(wire, "none", 1, 2)
    process = psutil.Process(pair.engine.process.pid)
    before = process.memory_info().rss
    gets = [word for _ in range(30) for word in ("|>", "AI.TENSORGET", "t", "BLOB")]
    blob = bytes(range(256)) * (16 * MIB // 256)
    wire.send(encoded(("AI.DAGRUN_RO", "|>", "AI.TENSORSET", "t", "UINT8", len(blob), "BLOB", blob, *gets)))

    assert wire.socket.recv(5) == b"*31\r\n"
    largest = process.memory_info().rss
    assert wire.reply() == b"+OK\r\n"
    for _ in range(30):
        assert wire.reply() == b"$%d\r\n%b\r\n" % (len(blob), blob)
        largest = max(largest, process.memory_info().rss)

    assert largest - before < 128 * MIB
    assert wire.is_quiet()


def check_refused(reply: bytes, what: str, limit: int | None = None) -> None:
    assert reply.startswith(b"-ERR the %b " % what.encode()), reply[:200]
    assert reply.endswith(b"(see --%b-limit)\r\n" % what.removesuffix("s").encode())
    if limit is not None:
        assert b" at most %d are allowed " % limit in reply
