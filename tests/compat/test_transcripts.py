"""
Every recorded answer of a real RedisAI 1.2.7, asked of the engine again.

Two lists name the scenarios that don't pass: those in `not_yet.txt` until somebody makes them pass and takes them off,
those in `differences.py` for good. Both lists only shrink: a listed scenario that passes fails the test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.differences import DIFFERENCES
from compat.transcripts import replay
from support.servers import Server
from support.transcripts import Scenario, scenarios

NOT_YET = tuple((Path(__file__).parent / "not_yet.txt").read_text().split())
LISTED = (*NOT_YET, *DIFFERENCES)

REPLY_TIMEOUT_S = 15.0
SHORT_TIMEOUT_S = 2.0  # for scenarios that don't pass: some wait for a reply that never comes


def parameters() -> list[object]:
    """One parameter a scenario, marked by the lists above."""
    reasons = dict.fromkeys(NOT_YET, "in not_yet.txt; take it off the list when it passes") | DIFFERENCES
    return [
        pytest.param(
            scenario,
            id=name,
            marks=[pytest.mark.xfail(reason=reasons[name], strict=True)] if name in reasons else [],
        )
        for name, scenario in scenarios().items()
    ]


@pytest.mark.parametrize("scenario", parameters())
def test_the_engine_answers_as_redisai_did(private_engine: Server, scenario: Scenario):
    if scenario.missing_backends:
        pytest.skip(f"needs {', '.join(sorted(scenario.missing_backends))}, which isn't installed")
    timeout_s = SHORT_TIMEOUT_S if scenario.name in LISTED else REPLY_TIMEOUT_S
    server = replay.Server(private_engine.host, private_engine.port, timeout_s=timeout_s)

    mismatches = server.mismatches(scenario.recorded)

    assert not mismatches, f"{scenario.recorded.get('about')}\n" + "\n".join(mismatches[:3])


def test_all_recorded_scenarios_are_here():
    """Otherwise nothing above would show that some are missing."""
    assert len(scenarios()) == 360


def test_the_lists_name_scenarios_that_exist_and_each_once():
    assert len(LISTED) == len(set(LISTED))
    assert set(LISTED) <= set(scenarios())


def test_differences_for_good_are_few():
    assert len(DIFFERENCES) <= 15
