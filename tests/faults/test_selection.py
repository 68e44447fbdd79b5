"""The faults that take only seconds. `scripts/test --faults` runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.run import run
from faults.table import FAULTS, Fault

pytestmark = pytest.mark.slow
SHORT = [fault for fault in FAULTS if fault.is_short]


@pytest.mark.parametrize("fault", SHORT, ids=[fault.title for fault in SHORT])
def test_nothing_acknowledged_is_lost_and_no_answer_is_wrong(fault: Fault, tmp_path: Path) -> None:
    outcome = run(fault, tmp_path)

    assert outcome.problems == []
    assert outcome.predictions > 0
    assert outcome.writes > 0
