"""A deployment with a record, as the plugin writes both, without MLflow."""

from __future__ import annotations

import json

from mlflow_redisai.server.commands import ModelMeta
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.record import record_key
from support.http_calls import HttpServer
from support.tiny_models import product_and_sum

EXAMPLE = {"inputs": {"a": [[1.5, 2.5]], "b": [[3.5, 4.5]]}}


def deploy(http: HttpServer, name: str, **record: str) -> None:
    """Store a model with a record, as the plugin writes it."""
    client = http.engine.client()
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    meta = ModelMeta.from_reply(client.execute_command("AI.MODELGET", name, "META"))
    fields = {
        "format": "1",
        "id": "0123",
        "flavor": "onnx",
        "model_uri": f"models:/{name}@champion",
        "version": "3",
        "run_id": "run-of-it",
        "created": "2026-11-26T12:00:00+00:00",
        "deployed_by": "ann",
        "revision": "7",
        "verification": json.dumps({"status": "passed", "rows": 5}),
        "notes": json.dumps(["a note"]),
        "options": json.dumps({"tag": "v1"}),
        "signature": json.dumps({"inputs": json.dumps([{"name": "a", "type": "tensor"}]), "outputs": None}),
        "mapping": json.dumps(Mapping.generic(meta.inputs, meta.outputs).to_json()),
        "fingerprint": meta.fingerprint(),
        "example": json.dumps(EXAMPLE),
    }
    client.hset(record_key(name.encode()), mapping={**fields, **record})
