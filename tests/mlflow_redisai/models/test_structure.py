"""One tensor, a dict of tensors, or a list of them becomes a flat tuple in a known order."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_redisai.models.structure import Structure


@pytest.mark.parametrize(
    ("structure", "answer", "flat"),
    [
        (Structure("tensor", ("output",)), "one", ("one",)),
        (Structure("list", ("a", "b")), ["one", "two"], ("one", "two")),
        (Structure("list", ("a", "b")), ("one", "two"), ("one", "two")),
        (Structure("dict", ("a", "b")), {"b": "two", "a": "one"}, ("one", "two")),
        (Structure("dict", ("0", "1")), {1: "two", 0: "one"}, ("one", "two")),
    ],
)
def test_the_names_tell_the_order(structure: Structure, answer: Any, flat: tuple[str, ...]) -> None:
    assert structure.flat(answer) == flat
