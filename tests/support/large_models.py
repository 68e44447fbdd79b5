"""Models so large that they are written to Redis while they are loaded."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from redisai_engine.redis import store
from support.onnx_models import graph_model, tensor
from support.servers import Server

SIZE = store.BLOB_FIELD_SIZE + 2**20


@cache
def weighty() -> bytes:
    """Return a model that answers with the number at a place in its weights, which are the places themselves."""
    weights = numpy_helper.from_array(np.arange(SIZE // 4, dtype=np.float32), "w")
    nodes = [helper.make_node("Gather", ["w", "i"], ["y"])]
    places, found = tensor("i", TensorProto.INT64, ["n"]), tensor("y", TensorProto.FLOAT, ["n"])
    return bytes(graph_model(nodes, [places], [found], weights=(weights,)).SerializeToString())


def padded(blob: bytes) -> bytes:
    """Return the same model with a description that makes it a large one."""
    model = onnx.load_from_string(blob)
    model.doc_string = "x" * SIZE
    return bytes(model.SerializeToString())


@contextmanager
def too_little_memory(engine: Server) -> Iterator[None]:
    """Let the engine's process take so little more memory that it can't load such a model."""
    pid = engine.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    now = int(Path(f"/proc/{pid}/statm").read_text().split()[5]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_DATA, (now + SIZE * 7 // 4, before[1]))  # it takes more besides the blob
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_DATA, before)
