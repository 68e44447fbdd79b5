"""A record's keys are in its model's cluster slot, and its fields tell everything that a prediction needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis.crc import key_slot

from redisai_engine.codec.errors import DamagedMapping, UnknownRecordFormat, UnreadableMapping
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.record import (
    FORMAT,
    fingerprint,
    is_own_key,
    mapping_of,
    record_key,
    texts,
    verification_key,
)


def changed(**fields: Any) -> str:
    """Return the JSON of a mapping with other values."""
    return json.dumps({**Mapping.generic(["x"], ["y"]).to_json(), **fields})


KEYS = [
    b"iris",
    b"team/iris:2",
    b"{user}iris",
    b"a{user}b{c}",
    b"a}b",
    b"{}a",
    b"a{b",
    b"}{",
    b"{{a}}",
    "näme".encode(),
    b"a b",
    b"\xff",
]

MODEL: dict[str, Any] = {
    "backend": "ONNX",
    "device": "CPU",
    "tag": "v1",
    "batchsize": 8,
    "minbatchsize": 2,
    "minbatchtimeout": 5,
    "inputs": ("x",),
    "outputs": ("y", "z"),
}


@pytest.mark.parametrize("key", KEYS)
def test_the_keys_of_a_deployment_have_the_slot_of_its_model(key: bytes) -> None:
    assert key_slot(record_key(key)) == key_slot(key)
    assert key_slot(verification_key(key, "1")) == key_slot(key)


def test_no_two_models_share_a_record() -> None:
    keys = [*KEYS, b"{iris}", b"{iris}iris", b"user", b"{user}"]

    assert len({record_key(key) for key in keys}) == len(keys)


def test_the_keys_are_written_as_the_documents_have_them() -> None:
    assert record_key(b"iris") == b"mlflow-redisai:{iris}:record:iris"
    assert verification_key(b"{user}iris", "7") == b"mlflow-redisai:{user}:verify:7"


def test_own_keys_are_told_from_models() -> None:
    assert is_own_key(verification_key(b"iris", "1"))
    assert is_own_key(record_key(b"iris"))
    assert not is_own_key(b"iris")


def fields(**changes: str) -> dict[bytes, bytes]:
    """Return a record's hash, with only the fields that are read here."""
    written = {"format": str(FORMAT), "id": "1", "mapping": json.dumps(Mapping.generic(["x"], ["y"]).to_json())}
    return {name.encode(): value.encode() for name, value in (written | changes).items()}


def test_the_mapping_is_read_out_of_the_fields() -> None:
    assert mapping_of(texts(fields())) == Mapping.generic(["x"], ["y"])


def test_all_fields_are_text_whatever_bytes_they_hold() -> None:
    found = texts(fields(tag="ü") | {b"odd": b"\xff"})

    assert (found["tag"], found["odd"]) == ("ü", "\udcff")


@pytest.mark.parametrize("written", [{"format": "99"}, {"format": ""}], ids=["later", "none"])
def test_a_record_of_another_version_is_refused_with_the_way_out(written: dict[str, str]) -> None:
    with pytest.raises(UnknownRecordFormat) as caught:
        texts(fields(**written))

    assert str(caught.value) == (
        f"the deployment's record has format {written['format']!r}, but this version reads only format {FORMAT}; "
        "upgrade with "
        "pip install --upgrade mlflow-redisai"
    )


def test_a_mapping_of_a_later_version_is_refused() -> None:
    with pytest.raises(UnreadableMapping):
        mapping_of(texts(fields(mapping='{"format": 99}')))


@pytest.mark.parametrize(
    ("mapping", "reason"),
    [
        ("", "JSONDecodeError: Expecting value"),
        ("[" * 100_000, "RecursionError: "),
        ("null", "AttributeError: "),
        ('{"format": 1}', "KeyError: 'inputs'"),
        (changed(fetch=[1]), "fetch can't be right"),
        (changed(fetch=["y"]), "mapping has fetch ('y',)"),
        (changed(batch="4"), "mapping has batch '4'"),
        (changed(precision="INT8"), "precision can't be right"),
        (changed(outputs=[{"name": "y", "dtype": None, "shape": [-1]}]), "a shape can't be right"),
        (changed(inputs=[{"name": "x", "dtype": None, "shape": None, "fields": [0]}]), "the fields of the inputs"),
        (changed(answer={"container": "heap", "parts": []}), "answer has container 'heap'"),
    ],
)
def test_a_mapping_that_somebody_else_has_changed_is_refused(mapping: str, reason: str) -> None:
    """Whoever may write to Redis may change a record. That must not surprise those who predict."""
    with pytest.raises(DamagedMapping) as caught:
        mapping_of(texts(fields(mapping=mapping)))

    assert str(caught.value).startswith(f"the record's mapping is damaged: {reason}")


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "TORCH"},
        {"device": "GPU"},
        {"tag": "v2"},
        {"batchsize": 9},
        {"minbatchsize": 1},
        {"minbatchtimeout": 6},
        {"inputs": ("x", "w")},
        {"outputs": ("z", "y")},
    ],
    ids=str,
)
def test_a_fingerprint_changes_with_whatever_meta_tells(change: dict[str, Any]) -> None:
    assert fingerprint(**MODEL) == fingerprint(**MODEL)
    assert fingerprint(**{**MODEL, **change}) != fingerprint(**MODEL)


def test_fingerprints_stay_what_they_were() -> None:
    """Records that are in use were written by earlier versions."""
    assert fingerprint(**MODEL) == "44f794e507236d918b233968f7ee0efd"
