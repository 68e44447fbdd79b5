"""A few minutes of the census with the seed of the day: no deployment is wrong or hangs, and no exception escapes."""

from __future__ import annotations

import random
import time
from datetime import datetime, timezone
from importlib.util import find_spec

import pytest

from census.families import all_rows
from census.rows import Row
from census.running import run
from census.verdicts import FAULTS, UNTRAINED

SECONDS = 200.0

_MISSING = [name for name in ("xgboost", "lightgbm", "catboost", "torch", "keras") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]


def test_a_sample_of_the_census_has_no_faults() -> None:
    seed = int(datetime.now(timezone.utc).strftime("%Y%m%d"))
    print(f"seed {seed}")
    names = list(all_rows().values())
    random.Random(seed).shuffle(names)
    ends = time.monotonic() + SECONDS

    found = list(run(names, seed, until=lambda: time.monotonic() > ends))

    faults = [
        f"scripts/census --row {each.row.name!r} --seed {seed}: {each.verdict.kind}: {each.verdict.reason}"
        for each in found
        if each.verdict.kind in FAULTS
    ]
    assert any(each.verdict.kind != UNTRAINED for each in found)
    assert faults == []


def test_a_row_that_computes_for_too_long_is_ended() -> None:
    """The same process can't judge it: the time that a library computes without a break can only be ended outside."""
    [found] = run([Row("sklearn", "LogisticRegression")], 1, limit=0.01)

    assert found.verdict.reason.endswith("didn't end within 0.01 s")
