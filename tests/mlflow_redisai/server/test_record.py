"""
Names under which models can be deployed, and those that are refused.

A record's fields survive the round trip to Redis.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.errors import UnreadableRecord
from mlflow_redisai.server.record import Record, check_name
from redisai_engine.codec.mapping import FORMAT, Mapping


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a deployment's name must be a non-empty string, got ''"),
        (None, "a deployment's name must be a non-empty string, got None"),
        (7, "a deployment's name must be a non-empty string, got 7"),
        (
            "mlflow-redisai:x",
            (
                "the name 'mlflow-redisai:x' is not allowed: keys that start with mlflow-redisai: are reserved for the "
                "plugin"
            ),
        ),
        ("|>", "the name '|>' is not allowed: it separates operations in RedisAI's commands"),
    ],
)
def test_names_that_can_not_be_keys_of_models_are_refused(name: object, message: str) -> None:
    with pytest.raises(MlflowException) as caught:
        check_name(name)

    assert caught.value.message == message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def a_record(**changes: object) -> Record:
    fields = {
        **Record.new_identity(),
        "flavor": "onnx",
        "model_uri": "models:/ü@champion",
        "run_id": None,
        "signature": {"inputs": '[{"type": "double"}]', "outputs": None, "params": None},
        "mapping": Mapping.generic(["x"], ["y"]),
        "verification": {"status": "passed", "difference": 1e-7},
        "notes": ("one", "two"),
        "options": DeploymentOptions(tag="v1", opset=15, timeout=5),
        "fingerprint": "abc",
    }
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "record",
    [
        a_record(),
        a_record(run_id="r", signature=None, verification=None, notes=()),
        a_record(version="3", revision=7, deployed_by=None, example='{"inputs": [[1.5]]}'),
    ],
)
def test_a_record_comes_back_from_redis_as_it_was(record: Record) -> None:
    fields = {name.encode(): value.encode() for name, value in record.fields().items()}

    assert Record.from_fields(fields) == record


def test_a_record_of_an_earlier_version_is_read() -> None:
    """It lacks what later versions have added."""
    record = a_record()
    fields = {name.encode(): value.encode() for name, value in record.fields().items()}
    for name in (b"version", b"deployed_by", b"revision", b"example"):
        del fields[name]

    assert Record.from_fields(fields) == replace(record, version=None, deployed_by=None, revision=None, example="")


@pytest.mark.parametrize(("before", "revision"), [(None, 1), ("", 1), ("1", 2), ("41", 42), ("x", 1), ("9" * 99, 1)])
def test_revisions_of_a_name_follow_each_other(before: str | None, revision: int) -> None:
    assert a_record().after(before).revision == revision


def test_there_is_no_record_without_fields() -> None:
    assert Record.from_fields({}) is None


def test_a_record_of_a_later_version_is_refused_with_the_way_out() -> None:
    with pytest.raises(MlflowException) as caught:
        Record.from_fields({b"format": b"99", b"id": b"x"})

    assert caught.value.message == (
        "the deployment's record has format '99', but this version reads only format 1; upgrade with "
        "pip install --upgrade mlflow-redisai"
    )


def test_a_mapping_of_a_later_version_is_refused_too() -> None:
    fields = {name.encode(): value.encode() for name, value in a_record().fields().items()}
    fields[b"mapping"] = fields[b"mapping"].replace(b'"format": 1', b'"format": 99')

    with pytest.raises(UnreadableRecord) as caught:
        Record.from_fields(fields)

    assert caught.value.message == (
        f"the record's mapping has format 99, but this version reads formats up to {FORMAT}; upgrade mlflow-redisai"
    )


def test_every_deployment_has_an_id_of_its_own() -> None:
    assert Record.new_identity()["id"] != Record.new_identity()["id"]


#: Values that fields of a record may have if somebody else has written them, besides none at all.
DAMAGED = {
    "signature": ("", "{", "[]", "7", '"x"', '{"inputs": []}', "[" * 100_000),
    "verification": ("", "nan", "[]", "7", '"passed"', "[" * 100_000),
    "notes": ("", "null", "{}", "7", '"ab"', "[7]", "[null]", "9" * 5000),
    "options": (
        *("", "null", "[]", '"tag"', '{"tag": 7}', '{"batchsize": "8"}', '{"batchsize": true}', '{"verify": 1}'),
        *('{"opset": []}', '{"minbatchsize": 8}', '{"minbatchtimeout": 1}', '{"timeout": null}'),
    ),
    "mapping": ("", "null", "[]", "{}", "[" * 100_000),
    **dict.fromkeys(("id", "flavor", "model_uri", "run_id", "fingerprint", "created"), ()),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in DAMAGED for value in (None, *DAMAGED[name])])
def test_a_record_that_somebody_has_damaged_is_refused(name: str, value: str | None) -> None:
    fields = {name.encode(): value.encode() for name, value in a_record().fields().items()}
    del fields[name.encode()]
    if value is not None:
        fields[name.encode()] = value.encode()

    with pytest.raises(UnreadableRecord, match=name) as caught:
        Record.from_fields(fields)

    assert len(caught.value.message) < 500


def test_options_of_a_newer_version_are_ignored() -> None:
    record = a_record()
    fields = {name.encode(): value.encode() for name, value in record.fields().items()}
    fields[b"options"] = fields[b"options"].replace(b"{", b'{"priority": [7], ', 1)

    assert Record.from_fields(fields) == record
