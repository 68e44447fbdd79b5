"""
Some minutes of the census, with other data and other rows every day: no row is wrong, hung or raw.

What a failure prints repeats it: `scripts/census --row NAME --seed SEED`.
"""

from __future__ import annotations

import datetime
import random
import time
from importlib.util import find_spec

import pytest

from census.families import all_rows
from census.rows import Row
from census.running import run
from census.verdicts import FAULTS, UNTRAINED

SECONDS = 100
FAMILIES = ("sklearn", "xgboost", "lightgbm", "catboost")

_MISSING = [name for name in FAMILIES if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]


def test_rows_of_the_day_have_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    seed = datetime.datetime.now(datetime.UTC).date().toordinal()
    rows = [row for row in all_rows().values() if row.family in FAMILIES]
    random.Random(seed).shuffle(rows)
    ends = time.monotonic() + SECONDS

    found = list(run(rows, seed, jobs=2, until=lambda: time.monotonic() > ends))

    with capsys.disabled():
        counted = sum(each.verdict.kind != UNTRAINED for each in found)
        print(f"\ncensus of the day: {counted} models, seed {seed}")
    assert [f"{each.row.name}: {each.verdict}" for each in found if each.verdict.kind in FAULTS] == []
    assert counted > 20


def test_a_row_that_computes_for_too_long_is_ended() -> None:
    """The same process can't judge it: the time that a library computes without a break can only be ended outside."""
    [found] = run([Row("sklearn", "LogisticRegression")], 1, limit=0.01)

    assert found.verdict.reason.endswith("didn't end within 0.01 s")
