"""Targets for values: a user's JSON, the record beside a model, what a model answers, and the answer's JSON."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from typing import Any

import numpy as np

from fuzz.choices import Choices
from redisai_engine.codec import answers, onnx_types, prediction, record
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.errors import CodecError
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor
from support import json_forms

_DEPTH = 6  # of a generated value; JSON text may be deeper
_KEYS = ("inputs", "instances", "dataframe_split", "dataframe_records", "columns", "index", "data", "params")
_RECORD = {
    b"format": b"1",
    b"id": b"a1",
    b"flavor": b"sklearn",
    b"model_uri": b"models:/m/1",
    b"run_id": b"",
    b"signature": b'{"inputs": "[]", "outputs": null}',
    b"verification": b'{"status": "passed"}',
    b"notes": b"[]",
    b"mapping": b"",
    b"options": b'{"tag": "v1", "batchsize": 8}',
    b"fingerprint": b"f",
    b"created": b"2026-01-01",
}
_NAMES = (*json_forms.TYPES, "a", "b", "x", "0")


def documents(data: bytes) -> None:
    """Any JSON is tensors that fit the model, which can be cut into requests and joined, or is refused."""
    choices = Choices(data)
    encoder = _encoders()[choices.byte() % len(_encoders())]
    value = _from_text(choices) if choices.flag() else _value(choices, _DEPTH)
    with contextlib.suppress(CodecError):
        encoded = encoder.encode(Document(value))
        _check_requests(encoded, encoder.mapping, max_rows=1 + choices.byte() % 4)


def _check_requests(encoded: list[Tensor], mapping: Mapping, *, max_rows: int) -> None:
    rows = prediction.row_count(encoded, mapping)
    requests = prediction.split(encoded, mapping, max_rows)
    for request in requests:
        for tensor, item in zip(request, mapping.inputs, strict=True):
            assert tensor.array().shape == tensor.shape
            assert item.dtype in (None, tensor.dtype)
    joined = prediction.join(requests, rows)
    if all(mapping.has_rows(item) for item in mapping.inputs):
        assert [bytes(tensor.blob) for tensor in joined] == [bytes(tensor.blob) for tensor in encoded]


def _from_text(choices: Choices) -> Any:
    """Return the value of the rest as JSON text, or that text itself. A parser that gives up has done its work."""
    text = choices.stretched()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.decode("latin-1")


def _value(choices: Choices, depth: int) -> Any:
    """Return a value as `json.loads` makes them, or one that an HTTP or Python client may pass in its place."""
    kind = choices.byte() % (12 if depth else 8)
    if kind >= 10:
        names = _KEYS if choices.flag() else _NAMES
        return {choices.one(names): _value(choices, depth - 1) for _ in range(choices.byte() % 6)}
    if kind >= 8:
        return [_value(choices, depth - 1) for _ in range(choices.byte() % 6)]
    plain = (None, True, False, choices.integer(), choices.number(), choices.text(), choices.one(_NAMES), 10**400)
    return plain[kind]


@cache
def _encoders() -> list[Encoder]:
    contract = Field("x", "double", dtypes.DOUBLE, gaps=False, infinite=False, largest=1e6, least=-3.0)
    marked = Field("code", "string", dtypes.STRING, missing=("None", "NaN"), null="NaN")
    known = Field("amount", "long", dtypes.INT64, known=(1, 2, 3))
    pictures = Field("a", "float32", dtypes.FLOAT, (None, 2, 2))
    words = Field("b", "str", dtypes.STRING, (None,))
    return [
        Encoder(mapping)
        for mapping in (
            json_forms.mapping(),
            json_forms.matrix_mapping(),
            json_forms.matrix_mapping(names=("a", "b")),
            json_forms.matrix_mapping(names=("0", "1"), kind="long"),
            Mapping.generic(["x"], ["y"]),
            Mapping.generic(["a", "b"], ["x", "y"]),
            _mapping("columns", contract, marked, known),
            _mapping(
                "columns", Field("0", "boolean", dtypes.BOOL, numbered=True), Field("b", "", dtypes.FLOAT, used=False)
            ),
            _mapping("tensors", pictures, words),
            _mapping("columns", Field("x", "float", dtypes.FLOAT), batch=3),
        )
    ]


def _mapping(kind: Any, *fields: Field, batch: int | None = None) -> Mapping:
    inputs = tuple(
        Input(item.name or "", item.dtype, (batch, *(item.shape[1:] or (1,))), (index,))
        for index, item in enumerate(fields)
    )
    params = (("temperature", 1),)
    return Mapping(
        inputs, (Output("y"),), (0,), json_forms.mapping().answer, Schema(kind, fields), batch, params=params
    )


def records(data: bytes) -> None:
    """The mapping in a record that anyone may have written can be used, or is refused when it is read."""
    choices = Choices(data)
    text = choices.stretched() if choices.flag() else json.dumps(_damaged(choices)).encode()
    with contextlib.suppress(CodecError):
        found = record.texts({b"format": b"1", b"mapping": text})
        mapping = record.mapping_of(found)
        assert Mapping.from_json(mapping.to_json()) == mapping
        encoder = Encoder(mapping)
        for form in (json_forms.ROWS, [[1.0, 2.0]], {"x": [1.0]}):
            with contextlib.suppress(CodecError):
                _check_requests(encoder.encode(Document(form)), mapping, max_rows=3)


def deployments(data: bytes) -> None:
    """A record that anyone may have written is a deployment's, which can be written again, or is refused."""
    from mlflow_redisai.errors import UnreadableRecord  # here, because MLflow takes seconds to import
    from mlflow_redisai.server.record import Record

    choices = Choices(data)
    fields = dict(_RECORD)
    fields[b"mapping"] = json.dumps(json_forms.mapping().to_json()).encode()
    for _ in range(1 + choices.byte() % 3):
        name = choices.one(sorted(_RECORD))
        fields.pop(name, None)
        kind = choices.byte() % 4
        if kind:
            fields[name] = json.dumps(_value(choices, 3)).encode() if kind > 1 else choices.stretched()
    with contextlib.suppress(UnreadableRecord):
        found = Record.from_fields(fields)
        assert found is not None
        again = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in found.fields().items()}
        read = Record.from_fields(again)
        assert read is not None
        assert read.fields() == found.fields()


def _damaged(choices: Choices) -> Any:
    """Return a mapping's JSON with some of its values replaced or left out."""
    root = json.loads(json.dumps(choices.one(_encoders()).mapping.to_json()))
    for _ in range(1 + choices.byte() % 3):
        place = root
        while choices.flag() and (inner := _children(place)):
            place = choices.one(inner)
        _damage(place, choices)
    return root


def _children(place: Any) -> list[Any]:
    values = place.values() if isinstance(place, dict) else place
    return [value for value in values if isinstance(value, (dict, list)) and value]


def _damage(place: Any, choices: Choices) -> None:
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    if not keys:
        return
    if choices.flag():
        place[choices.one(keys)] = _value(choices, 2)
    else:
        del place[choices.one(keys)]


def decoded(data: bytes) -> None:
    """Whatever tensors a server answers: they are the answer, which has a JSON form, or they are refused."""
    choices = Choices(data)
    parts = tuple(_part(choices, name) for name in ("y", "z")[: 1 + choices.byte() % 2])
    container: Any = choices.one(("ndarray", "list", "dict", "listed", "ranking", "stack"))
    fetch = tuple(range(len(parts)))
    mapping = Mapping((), tuple(Output(part.name) for part in parts), fetch, Answer(container, parts))
    tensors = [_tensor(choices) for _ in parts]
    # NumPy may warn of numbers that pyfunc's type can't hold.
    with contextlib.suppress(CodecError), np.errstate(all="ignore"):
        answer = answers.decode(tensors, mapping)
        json.dumps(answers.plain(answer), allow_nan=False)


def _part(choices: Choices, name: str) -> Part:
    dtype = choices.one((None, "float32", "int64", "object", "bool", "str", "datetime64[ns]"))
    shape = choices.one((None, (-1,), (-1, 2), (2, 2)))
    labels = choices.one(((), ("a", "b"), (1, 2)))
    return Part(name, dtype, shape, labels, choices.one(((), ("no", "yes"))))


def _tensor(choices: Choices) -> Tensor:
    dtype = choices.one(dtypes.DTYPES)
    shape = tuple(choices.byte() % 4 for _ in range(choices.byte() % 4))
    count = int(np.prod(shape))
    blob = b"".join(choices.take(2).replace(b"\0", b"?") + b"\0" for _ in range(count)) if dtype.is_string else None
    return Tensor(dtype, shape, choices.take(count * dtype.size) if blob is None else blob)


def foreign_models(data: bytes) -> None:
    """A model that somebody else stored has types, or can't be predicted with."""
    with contextlib.suppress(CodecError):
        onnx_types.with_own_types(Mapping.generic(["x"], ["y"]), Choices(data).stretched(), "m")
