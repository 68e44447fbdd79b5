"""First lines of CSV that pandas would read for minutes or for ever."""

from __future__ import annotations

import contextlib
import time
from random import Random

import pytest

from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.scoring.inputs import CSV, read_input
from support import json_forms

MOST = 1 << 17


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a," * 10_000 + "a", "10000 of the frame's 10001 columns have the name of another one; rename them"),
        ("\n \r\n" + "a," * 10_000, "9999 of the frame's 10001 columns have the name of another one"),
        (",".join(map(str, range(100_001))), "the frame has 100001 columns; at most 100000 are allowed"),
        (f'"{"a" * 2**20}"', "field larger than field limit"),
        ("a\n" + "," * 10_000, "the first row has 10001 values for 1 columns; at most 100 more are allowed"),
        ("\n a,b\r\n\n" + "1," * 102, "the first row has 103 values for 2 columns; at most 100 more are allowed"),
    ],
    ids=["one name", "behind empty lines", "many names", "a long name", "values only", "behind a line between"],
)
def test_it_is_refused_at_once(line: str, reason: str) -> None:
    with pytest.raises(RequestRefused, match=reason) as caught:
        read_input(CSV, f"{line}\n1\n".encode(), json_forms.mapping(), 2**30)

    assert caught.value.status == 400


def test_a_few_values_may_have_no_name() -> None:
    """Pandas makes an index of them, and so does MLflow."""
    given = read_input(CSV, b"a,b\n1,2,3\n4,5,6\n", json_forms.mapping(), 2**30)

    assert list(given.value.columns) == ["a", "b"]
    assert list(given.value.index) == [1, 4]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_allowed_is_read_in_time(seed: int) -> None:
    """Names, values without names, rows and repetitions of random sizes: none takes a second for 128 KB."""
    random = Random(seed)
    columns, extra, row_count = (int(10 ** random.uniform(0, 5)) for _ in range(3))
    names = [random.choice(["a", "", f"c{i}"]) for i in range(columns)]
    row = [random.choice(["", "1", "x", "1.5"]) for _ in range(columns + random.choice([0, -1, extra]))]
    line = "\n" + ",".join(row)
    body = (",".join(names) + line * min(row_count, 1 + MOST // len(line))).encode()[:MOST]

    began = time.process_time()
    with contextlib.suppress(RequestRefused):
        read_input(CSV, body, json_forms.mapping(), 2**30)

    assert time.process_time() - began < 2


def test_a_few_names_may_repeat() -> None:
    given = read_input(CSV, b"a,a,b\n1,2,3\n", json_forms.mapping(), 2**30)

    assert list(given.value.columns) == ["a", "a.1", "b"]
