"""First lines of CSV that pandas would read for minutes or for ever."""

from __future__ import annotations

import pytest

from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.scoring.inputs import CSV, read_input
from support import json_forms


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a," * 10_000 + "a", "10000 of the frame's 10001 columns have the name of another one; rename them"),
        ("\n \r\n" + "a," * 10_000, "9999 of the frame's 10001 columns have the name of another one"),
        (",".join(map(str, range(100_001))), "the frame has 100001 columns; at most 100000 are allowed"),
        (f'"{"a" * 2**20}"', "field larger than field limit"),
    ],
    ids=["one name", "behind empty lines", "many names", "a long name"],
)
def test_it_is_refused_at_once(line: str, reason: str) -> None:
    with pytest.raises(RequestRefused, match=reason) as caught:
        read_input(CSV, f"{line}\n1\n".encode(), json_forms.mapping(), 2**30)

    assert caught.value.status == 400


def test_a_few_names_may_repeat() -> None:
    given = read_input(CSV, b"a,a,b\n1,2,3\n", json_forms.mapping(), 2**30)

    assert list(given.value.columns) == ["a", "a.1", "b"]
