"""Targets for what arrives over HTTP: V2's requests, and bodies of `/invocations`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np

from fuzz.choices import Choices
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import CodecError
from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.failures import RequestRefused, status_of
from redisai_engine.fronts.http.gate import parse_authorization
from redisai_engine.fronts.http.hot import failed, find
from redisai_engine.fronts.http.scoring import inputs
from redisai_engine.fronts.http.v2.requests import parse_request
from redisai_engine.fronts.http.v2.tensors import DATATYPES, datatype_of, to_binary, to_json
from support import json_forms

_MOST = 32 << 20  # bytes that a frame may take
_NAMES = ("inputs", "outputs", "name", "datatype", "shape", "data", "parameters", "id", "binary_data_size", "timeout")


def v2_requests(data: bytes) -> None:
    """Any body is tensors of the announced types and shapes, or is refused as wrong."""
    choices = Choices(data)
    body, size = _raw(choices) if choices.flag() else _built(choices)
    refusal = None
    try:
        request = parse_request(body, size)
        assert request.timeout_seconds is None or request.timeout_seconds > 0
    except RequestRefused as error:
        refusal = error
    if refusal is not None:
        assert 400 <= status_of(refusal) < 500
        failed("/v2/models/m/infer", refusal)
        return
    for item in request.inputs.values():
        assert item.array.flags.aligned
        assert DATATYPES[datatype_of(item.array.dtype)] == item.array.dtype
        to_json(item.array)
        to_binary(item.array)


def _raw(choices: Choices) -> tuple[bytes, int | None]:
    size = choices.integer() if choices.flag() else None
    return choices.stretched(), size if size is None or size >= 0 else None


def _built(choices: Choices) -> tuple[bytes, int | None]:
    """Return a request that is right in most of its parts."""
    listed = []
    binaries = b""
    for _ in range(choices.byte() % 3 + 1):
        datatype = choices.one((*DATATYPES, "FP8", 3))
        shape = [choices.one((0, 1, 2, 3, -1, 2**40, 1.5)) for _ in range(choices.byte() % 4)]
        item: dict[str, Any] = {"name": choices.one(("a", "b", "", None)), "datatype": datatype, "shape": shape}
        if choices.flag():
            raw = choices.take(choices.byte() % 40)
            binaries += raw
            item["parameters"] = {"binary_data_size": choices.one((len(raw), len(raw) + 1, -1, "8", None))}
        else:
            item["data"] = _values(choices, 3)
        listed.append(item)
    document = {"inputs": listed, choices.one(_NAMES): _values(choices, 2)}
    head = json.dumps(document, default=str).encode()
    return head + binaries, choices.one((len(head), None, len(head) + 1, 0))


def _values(choices: Choices, depth: int) -> Any:
    kind = choices.byte() % (9 if depth else 7)
    if kind >= 7:
        return [_values(choices, depth - 1) for _ in range(choices.byte() % 5)]
    plain = (None, True, choices.integer(), choices.number(), choices.text().encode("utf-8", "replace").decode(), {}, 1)
    return plain[kind]


def invocations(data: bytes) -> None:
    """Any body is an input that the codec takes or refuses."""
    choices = Choices(data)
    mapping = choices.one((json_forms.mapping(), json_forms.matrix_mapping()))
    kind = choices.one((inputs.JSON, inputs.JSON, inputs.CSV))
    with contextlib.suppress(RequestRefused, CodecError):
        given = inputs.read_input(kind, choices.stretched(), mapping, _MOST)
        for tensor in Encoder(mapping).encode(given.value):
            assert isinstance(tensor.array(), np.ndarray)


def heads(data: bytes) -> None:
    """Any path, content type and credentials are read or refused."""
    choices = Choices(data)
    with contextlib.suppress(EngineError):
        inputs.media_type(choices.take(choices.byte()))
    path = "/" + choices.take(choices.byte()).decode("latin-1")
    find(path)
    failed(path, EngineError("ERR " + path))
    with contextlib.suppress(EngineError):
        parse_authorization(choices.rest())
