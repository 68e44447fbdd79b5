"""
A key that comes or goes between two commands of one question: the answer is one that was right before or after.

An engine asks Redis several things about a key. A proxy between them creates or deletes the key before each of the
commands in turn, as an expiry or another client may.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator

import pytest

from support.connection import Connection, connected, encoded
from support.gateway import model_blob, prediction
from support.replies import OK
from support.servers import start_engine, start_redis
from support.stepping import Stepping, stepping

KEY = "changing"
OTHER = (KEY.encode(), b"neverkey")  # as long as the key
SOURCE = "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0]\n"
BLOB = model_blob("Add")
STORES = {
    "model": encoded(("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", BLOB)),
    "script": encoded(("AI.SCRIPTSTORE", KEY, "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", SOURCE)),
    "tensor": encoded(f"AI.TENSORSET {KEY} FLOAT 1 VALUES 1"),
    "hash": encoded(f"HSET {KEY} own field"),
}
REQUESTS = {
    "model": {
        "MODELGET META": encoded(f"AI.MODELGET {KEY} META"),
        "MODELGET BLOB": encoded(f"AI.MODELGET {KEY} BLOB"),
        "_MODELID": encoded(f"AI._MODELID {KEY}"),
        "MODELEXECUTE": encoded(f"AI.MODELEXECUTE {KEY} INPUTS 2 a b OUTPUTS 1 y"),
        "MODELRUN": encoded(f"AI.MODELRUN {KEY} INPUTS a b OUTPUTS y"),
        "DAG": prediction(KEY, 1, 2),
        "MODELDEL": encoded(f"AI.MODELDEL {KEY}"),
        "MODELSTORE": STORES["model"],
        "MODELSET": encoded(("AI.MODELSET", KEY, "ONNX", "CPU", "BLOB", BLOB)),
        "TYPE": encoded(f"TYPE {KEY}"),
        "OBJECT": encoded(f"OBJECT ENCODING {KEY}"),
    },
    "script": {
        "SCRIPTGET": encoded(f"AI.SCRIPTGET {KEY}"),
        "SCRIPTEXECUTE": encoded(f"AI.SCRIPTEXECUTE {KEY} f INPUTS 1 a OUTPUTS 1 y"),
        "SCRIPTDEL": encoded(f"AI.SCRIPTDEL {KEY}"),
        "SCRIPTSTORE": STORES["script"],
        "SCRIPTSET": encoded(("AI.SCRIPTSET", KEY, "CPU", "SOURCE", SOURCE)),
        "TYPE": encoded(f"TYPE {KEY}"),
    },
    "tensor": {
        "TENSORGET": encoded(f"AI.TENSORGET {KEY} META VALUES"),
        "TENSORSET": STORES["tensor"],
        "MODELEXECUTE": encoded(f"AI.MODELEXECUTE known INPUTS 2 {KEY} b OUTPUTS 1 y"),
        "MODELEXECUTE into": encoded(f"AI.MODELEXECUTE known INPUTS 2 a b OUTPUTS 1 {KEY}"),
        "TYPE": encoded(f"TYPE {KEY}"),
        "OBJECT": encoded(f"OBJECT ENCODING {KEY}"),
    },
}
CASES = [(kind, name) for kind, requests in REQUESTS.items() for name in requests]
HAS_TORCH = importlib.util.find_spec("torch") is not None
_MOST_STEPS = 30


class Ends:
    """A client of the engine, one of Redis, and the proxy between engine and Redis."""

    def __init__(self, wire: Connection, direct: Connection, between: Stepping) -> None:
        self.wire, self.direct, self.between = wire, direct, between
        self._one_at_a_time = threading.Lock()

    def has_key(self, kind: str, *, there: bool) -> None:
        with self._one_at_a_time:
            if there:
                assert self.direct.ask(f"COPY template:{kind} {KEY} REPLACE") == b":1\r\n"
            else:
                assert self.direct.ask(f"DEL {KEY}") in {b":0\r\n", b":1\r\n"}

    def answer(self, request: bytes, before: Callable[[], None]) -> bytes:
        self.between.before = before
        try:
            return self.wire.ask_raw(request)
        finally:
            self.between.before = None


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    redis = start_redis(tmp_path_factory.mktemp("behind"))
    with stepping(redis, KEY) as between:
        engine = start_engine(tmp_path_factory.mktemp("front"), "--redis", between.url)
        try:
            with connected(engine) as wire, connected(redis) as direct:
                wire.socket.settimeout(100)  # PyTorch is imported here
                for kind in STORES if HAS_TORCH else set(STORES) - {"script"}:
                    wire.ask_raw(STORES[kind])
                    assert direct.ask(f"RENAME {KEY} template:{kind}") == OK
                wire.ask("AI.MODELSTORE", "known", "ONNX", "CPU", "BLOB", BLOB)
                for name in "ab":
                    wire.ask(f"AI.TENSORSET {name} FLOAT 1 VALUES 1")
                yield Ends(wire, direct, between)
        finally:
            engine.stop()
    redis.stop()


def without_times(answer: bytes) -> bytes:
    """Return an answer without what differs from one run to the next: the id of a model that was stored anew."""
    return answer[:1] if answer.startswith(b"$16\r\n") else answer


@pytest.mark.parametrize("goes", [True, False], ids=["goes", "comes"])
@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind}-{name}" for kind, name in CASES])
def test_the_answer_was_right_before_or_after(ends: Ends, kind: str, name: str, goes: bool) -> None:  # noqa: FBT001
    if kind == "script" and not HAS_TORCH:
        pytest.skip("scripts need PyTorch")
    request = REQUESTS[kind][name]
    ends.has_key(kind, there=True)
    ends.direct.ask("DEL", OTHER[1])
    right = {without_times(ends.wire.ask_raw(request)), without_times(ends.wire.ask_raw(request.replace(*OTHER)))}

    for step in range(1, _MOST_STEPS):
        ends.has_key(kind, there=goes)
        seen = 0

        def change(step: int = step) -> None:
            nonlocal seen
            seen += 1
            if seen == step:
                ends.has_key(kind, there=not goes)

        answer = without_times(ends.answer(request, change))
        assert answer in right, f"changed before command {step}"
        if seen < step:
            break
    else:
        pytest.fail("the engine asks more than it needs to")


@pytest.mark.parametrize("kind", ["model", "script"])
def test_a_key_of_another_kind_is_one_all_the_time(ends: Ends, kind: str) -> None:
    wrong = b"-WRONGTYPE"
    for name, request in REQUESTS[kind].items():
        ends.has_key("hash", there=True)
        answer = ends.wire.ask_raw(request)
        assert answer.startswith(wrong) or name in {"TYPE", "OBJECT"}, name
        assert ends.direct.ask(f"HGETALL {KEY}") == b"*2\r\n$3\r\nown\r\n$5\r\nfield\r\n"
