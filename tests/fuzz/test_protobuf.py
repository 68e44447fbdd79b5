"""A changed model is still a message: its lengths are right, so that a reader gets to the change."""

from __future__ import annotations

from random import Random

from fuzz import protobuf
from support.gateway import model_blob


def test_fields_put_together_again_are_the_message() -> None:
    blob = model_blob("Add")

    fields = protobuf.parse(blob)

    assert fields is not None
    assert protobuf.join(fields) == blob


def test_bytes_that_are_no_message_have_no_fields() -> None:
    assert protobuf.parse(b"\xff") is None
    assert protobuf.parse(b"\x0a\x05abc") is None


def test_changed_models_differ_and_are_messages() -> None:
    blob = model_blob("Add")

    changed = [protobuf.changed(blob, Random(seed)) for seed in range(50)]

    assert sum(one != blob for one in changed) > 40
    assert all(protobuf.parse(one) is not None for one in changed)
