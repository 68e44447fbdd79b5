"""
V2's inference request: from the body's bytes to the inputs as arrays, and the outputs that are asked for.

A body is JSON, or JSON followed by the bytes of tensors (the extension `binary_tensor_data`). Nothing in it is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import orjson

from redisai_engine.backends.base import Array
from redisai_engine.fronts.http.access.calls import first_line
from redisai_engine.fronts.http.access.failures import bad_request
from redisai_engine.fronts.http.v2.content_types import undone
from redisai_engine.fronts.http.v2.tensors import dtype_of, from_binary, from_json, shape_of

_NOTHING: Mapping[str, Any] = {}
_MOST_TENSORS = 1024
_MOST_DIGITS = 18  # of a number of bytes
_NAME = 200  # characters of a name in an error
#: The header that says how much of a body is JSON.
JSON_SIZE = b"inference-header-content-length"


@dataclass(slots=True)
class InferInput:
    """One input: its array, and the parameters that came with it."""

    array: Array
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class InferRequest:
    """
    What a request asks for. `id` is None if it has none.

    `outputs` has the names of the wanted ones, each with whether it is wanted in binary form; None: all, each
    `as_binary`. `raw`: the body is one tensor without JSON, and so is the answer.
    """

    inputs: dict[str, InferInput]
    outputs: dict[str, bool] | None
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    as_binary: bool = False

    def is_binary(self, output: str) -> bool:
        """Return whether an output is wanted in binary form."""
        return self.as_binary if self.outputs is None else self.outputs[output]

    @property
    def timeout_seconds(self) -> float | None:
        """The parameter `timeout`, which is in microseconds as Triton's."""
        timeout = self.parameters.get("timeout")
        if timeout is None:
            return None
        if type(timeout) is not int or not 0 <= timeout < 2**63:
            raise bad_request(f"the parameter timeout must be a number of microseconds, got {timeout!r:.40}")
        return timeout / 1e6 if timeout else None


class ManyTexts(Exception):  # no error
    """There are more texts in binary form than may be read here."""


def json_size_of(text: bytes | None) -> int | None:
    """Return how many bytes of a body are JSON by the header JSON_SIZE; None: all. Raise RequestRefused."""
    if text is None:
        return None
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise bad_request(f"Inference-Header-Content-Length must be a number of bytes, got {text[:40]!r}")
    return int(text)


def parse_request(body: bytes, json_size: int | None, *, most_texts: int | None = None) -> InferRequest:
    """
    Read a request. `json_size` is how many bytes of it are JSON; None: all of them.

    Raise RequestRefused, and ManyTexts if an input in binary form has more texts than `most_texts`.
    """
    if json_size is None:
        document, rest = load_json(body), memoryview(b"")
    else:
        if json_size > len(body):
            raise bad_request(f"Inference-Header-Content-Length is {json_size}, but the body has {len(body)} bytes")
        document, rest = load_json(body[:json_size]), memoryview(body)[json_size:]
    if type(document) is not dict:
        raise bad_request("the body must be a JSON object with inputs")
    parameters = _parameters(document, "the request")
    id_ = document.get("id")
    if id_ is not None and type(id_) is not str:
        raise bad_request(f"id must be a text, got {id_!r:.40}")
    as_binary = _flag(parameters, "binary_data_output", default=False)
    inputs, unread = _inputs(document.get("inputs"), rest, most_texts)
    if unread:
        raise bad_request(f"the body has {unread} bytes behind its tensors")
    return InferRequest(inputs, _outputs(document.get("outputs"), as_binary), id_, parameters, as_binary)


def load_json(data: bytes) -> Any:
    """Parse JSON. Raise RequestRefused, which says where the fault is."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body isn't JSON: {first_line(error)}") from None


def _inputs(listed: Any, rest: memoryview, most_texts: int | None) -> tuple[dict[str, InferInput], int]:
    """Return the inputs by name, and how many bytes of `rest` belong to none of them."""
    if type(listed) is not list or not listed:
        raise bad_request("the body must have inputs, a list of at least one tensor")
    _check_count(len(listed), "inputs")
    found: dict[str, InferInput] = {}
    at = 0
    for item in listed:
        name = _name(item, "inputs")
        if name in found:
            raise bad_request(f"input {name!r} is there twice")
        dtype, shape = dtype_of(name, item.get("datatype")), shape_of(name, item.get("shape"))
        parameters = _parameters(item, f"input {name!r}")
        size = parameters.get("binary_data_size")
        if size is None:
            array = from_json(name, item.get("data"), dtype, shape)
        else:
            if type(size) is not int or not 0 <= size <= len(rest) - at:
                left = len(rest) - at
                raise bad_request(
                    f"input {name!r} has binary_data_size {size!r:.40}, but the body has {left} bytes left"
                )
            if most_texts is not None and dtype.kind == "O" and prod(shape) > most_texts:
                raise ManyTexts
            array = from_binary(name, rest[at : at + size], dtype, shape)
            at += size
        found[name] = InferInput(undone(name, array, parameters) if parameters else array, parameters)
    return found, len(rest) - at


def _outputs(listed: Any, as_binary: bool) -> dict[str, bool] | None:  # noqa: FBT001  # the name says it
    if listed is None:
        return None
    if type(listed) is not list:
        raise bad_request("outputs must be a list of objects with a name")
    _check_count(len(listed), "outputs")
    found: dict[str, bool] = {}
    for item in listed:
        name = _name(item, "outputs")
        parameters = _parameters(item, f"output {name!r}")
        for wish in ("classification", "shared_memory_region"):
            if wish in parameters:
                raise bad_request(f"output {name!r} asks for {wish}, which this server doesn't have")
        found[name] = _flag(parameters, "binary_data", default=as_binary)
    return found or None


def _check_count(count: int, what: str) -> None:
    if count > _MOST_TENSORS:
        raise bad_request(f"the request has {count} {what}; allowed: {_MOST_TENSORS}")


def _name(item: Any, where: str) -> str:
    name = item.get("name") if type(item) is dict else None
    if type(name) is not str or not name:
        raise bad_request(f"each of {where} must be an object with a name")
    if len(name) > _NAME:
        raise bad_request(f"{where} has a name of {len(name)} characters; allowed: {_NAME}")
    return name


def _parameters(item: dict[str, Any], what: str) -> Mapping[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return _NOTHING
    if type(parameters) is not dict:
        raise bad_request(f"parameters of {what} must be an object, got {type(parameters).__name__}")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise bad_request(f"the parameter {name} must be true or false, got {value!r:.40}")
    return value
