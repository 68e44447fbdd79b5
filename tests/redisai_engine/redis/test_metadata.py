"""A newer engine may store more of a model than this one knows."""

from __future__ import annotations

import json

from support.connection import Connection
from support.gateway import predict, store_model
from support.replies import OK, integer


def test_what_a_newer_engine_adds_is_ignored(wire: Connection, direct: Connection) -> None:
    """More fields of the hash, and more in its description: the model runs, and is listed and told of as before."""
    store_model(wire, "metadata:m")
    told = direct.ask("HGET metadata:m ai.model:meta")
    description = json.loads(told.split(b"\r\n")[1])
    assert description["backend"] == "ONNX"

    newer = json.dumps(description | {"precision": {"kind": "float8"}, "shards": [1, 2], "owner": None})
    assert direct.ask("HSET", "metadata:m", "ai.model:meta", newer, "ai.model:signature", "x") == integer(1)

    assert predict(wire, "metadata:m", 1, 2) == 3
    assert b"metadata:m" in wire.ask("AI._MODELSCAN")
    assert b"backend" in wire.ask("AI.INFO metadata:m")
    assert b"ONNX" in wire.ask("AI.MODELGET metadata:m META")
    assert wire.ask("AI.MODELDEL metadata:m") == OK
