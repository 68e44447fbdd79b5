"""An engine with the Redis behind it, and the few AI commands that tests of other features need."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

from support.connection import Connection, encoded
from support.replies import OK, bulk
from support.servers import Server

MISSING = b"-ERR model key is empty\r\n"  # RedisAI's text; the tests of the commands check all texts


@dataclass(frozen=True)
class Pair:
    """An engine and the Redis behind it."""

    engine: Server
    redis: Server


@cache
def model_blob(operator: str) -> bytes:
    """Return a model of two FLOAT inputs and one output, such as their sum ("Add") or product ("Mul")."""
    from onnx import TensorProto, helper

    from support.tiny_models import onnx_model

    shape = (TensorProto.FLOAT, ("N",))
    return onnx_model([helper.make_node(operator, ["a", "b"], ["y"])], {"a": shape, "b": shape}, {"y": shape})


def modelstore(key: str, operator: str = "Add") -> bytes:
    return encoded(("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", model_blob(operator)))


def prediction(key: str, a: float, b: float) -> bytes:
    """Return a DAG that runs the model on `a` and `b`."""
    sets = [f"|> AI.TENSORSET {name} FLOAT 1 VALUES {value}" for name, value in (("a", a), ("b", b))]
    run = f"|> AI.MODELEXECUTE {key} INPUTS 2 a b OUTPUTS 1 y |> AI.TENSORGET y BLOB"
    return encoded(f"AI.DAGEXECUTE_RO ROUTING {key} {' '.join(sets)} {run}")


def store_model(wire: Connection, key: str, operator: str = "Add") -> None:
    store_onnx(wire, key, model_blob(operator))


def store_onnx(wire: Connection, key: str, blob: bytes) -> None:
    assert wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", blob) == OK


def run_count(wire: Connection, key: str) -> int:
    """How often the model ran since it was stored, successfully or not."""
    told = wire.ask(f"AI.INFO {key}")
    return int(told.partition(bulk("calls") + b":")[2].partition(b"\r\n")[0])


def predict(wire: Connection, key: str, a: float, b: float) -> float | bytes:
    """Return the model's output for `a` and `b`, or the reply unchanged if it is an error."""
    wire.send(prediction(key, a, b))
    reply = wire.reply()
    if reply[:1] == b"-":
        return reply
    assert reply.startswith(b"*4\r\n"), reply
    return float(struct.unpack("<f", reply[-6:-2])[0])
