"""The faults that take only seconds. `scripts/test --faults` runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.fault import Row
from faults.table import FAULTS, run

pytestmark = pytest.mark.slow
SHORT = [fault for fault in FAULTS if fault.is_short]


@pytest.mark.parametrize("fault", SHORT, ids=[fault.word for fault in SHORT])
def test_nothing_acknowledged_is_lost_and_no_answer_is_wrong(fault: Row, tmp_path: Path) -> None:
    assert run(fault, tmp_path).problems == []


def test_each_fault_has_a_word_of_its_own() -> None:
    words = [fault.word for fault in FAULTS]

    assert len(set(words)) == len(words)
