"""Stores a model in an engine with RedisAI's commands, and checks that it answers as ONNX Runtime does."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import redis

from bench.models import Model


def deploy(port: int, model: Model, **options: int) -> None:
    """Store the model, make every worker load it, and compare an answer. Raise ValueError for a wrong one."""
    with redis.Redis(port=port) as client:
        client.execute_command(*model.store(**options))
    check(port, model)


def check(port: int, model: Model, rows: int = 1) -> None:
    """Compare the engine's answer with that of ONNX Runtime in this process."""
    session = model.session()
    expected = session.run(None, {session.get_inputs()[0].name: model.rows(rows)})[0]
    with redis.Redis(port=port) as client:
        answer = blob_of(client.execute_command(*model.dag(rows)))
    got = np.frombuffer(answer, expected.dtype).reshape(expected.shape)
    if not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
        raise ValueError(f"{model.name} answers {got.ravel()[:5]}, expected {expected.ravel()[:5]}")


def blob_of(reply: Any) -> bytes:
    """Return the tensor's bytes in the reply to `Model.dag`. Raise the error if there is one instead."""
    last = reply[-1]
    if isinstance(last, Exception):
        raise last
    return bytes(last[5] if isinstance(last, list) else last[b"blob"])


def deploy_time(port: int, model: Model) -> float:
    """Return the seconds from AI.MODELSTORE to the first answer."""
    store, predict = model.store(), model.dag()
    with redis.Redis(port=port, socket_timeout=300) as client:
        client.ping()
        before = time.perf_counter()
        client.execute_command(*store)
        blob_of(client.execute_command(*predict))
        return time.perf_counter() - before
