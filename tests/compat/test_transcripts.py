"""
Every recorded answer of a real RedisAI 1.2.7, asked of the engine again.

Three lists say what is expected of a scenario: those in `not_yet.txt` fail until somebody makes them pass and takes
them off (the list only shrinks: a listed scenario that passes fails the test), those in `differences.py` differ for
good and have tests of their own, and all others pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compat.differences import DIFFERENCES
from support.servers import Server, start_engine
from support.transcripts import ABSENT, Scenario, play, scenarios

NOT_YET = tuple((Path(__file__).parent / "not_yet.txt").read_text().split())

REPLY_TIMEOUT_S = 15.0
NOT_YET_TIMEOUT_S = 2.0  # many of these wait for a reply that never comes

needs_transcripts = pytest.mark.skipif(not scenarios(), reason=ABSENT)


@pytest.fixture(scope="module")
def private_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that is emptied before every scenario."""
    server = start_engine(tmp_path_factory.mktemp("transcripts"))
    yield server
    server.stop()


def parameters() -> list[object]:
    """One parameter a scenario, marked by the lists above."""
    if not scenarios():
        return [pytest.param(None, id="absent", marks=needs_transcripts)]
    not_yet = pytest.mark.xfail(reason="in not_yet.txt; take it off the list when it passes", strict=True)
    return [
        pytest.param(scenario, id=name, marks=[not_yet] if name in NOT_YET else [])
        for name, scenario in scenarios().items()
        if name not in DIFFERENCES
    ]


@pytest.mark.parametrize("scenario", parameters())
def test_the_engine_answers_as_redisai_did(private_engine: Server, scenario: Scenario):
    if scenario.missing_backends:
        pytest.skip(f"needs {', '.join(sorted(scenario.missing_backends))}, which isn't installed")
    timeout_s = NOT_YET_TIMEOUT_S if scenario.name in NOT_YET else REPLY_TIMEOUT_S

    mismatches = play(scenario, private_engine.host, private_engine.port, timeout_s=timeout_s)

    assert not mismatches, f"{scenario.steps.get('about')}\n" + "\n".join(mismatches[:3])


@needs_transcripts
def test_the_lists_name_scenarios_that_exist_and_each_once():
    listed = [*NOT_YET, *DIFFERENCES]

    assert len(listed) == len(set(listed))
    assert set(listed) <= set(scenarios())


def test_differences_for_good_are_few():
    assert len(DIFFERENCES) <= 15
