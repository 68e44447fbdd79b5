"""
Every recorded answer of a real RedisAI 1.2.7, asked of the engine again.

The scenarios that don't pass are named in `differences.py`. One of them that passes fails the test: the list only
shrinks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compat.differences import DIFFERENCES
from compat.transcripts import replay
from support.servers import Server
from support.transcripts import Scenario, scenarios

REPLY_TIMEOUT_S = 15.0
SHORT_TIMEOUT_S = 2.0  # for scenarios that don't pass: some wait for a reply that never comes


def parameters() -> list[object]:
    """One parameter a scenario; those that differ for good are marked."""
    return [pytest.param(scenario, id=name, marks=list(marks_of(name))) for name, scenario in scenarios().items()]


def marks_of(name: str) -> Iterator[pytest.MarkDecorator]:
    if name in DIFFERENCES:
        yield pytest.mark.xfail(reason=DIFFERENCES[name], strict=True)
    if name == "batching/execution_timeout_kills_loop":
        yield pytest.mark.slow


@pytest.mark.parametrize("scenario", parameters())
def test_the_engine_answers_as_redisai_did(private_engine: Server, scenario: Scenario):
    if scenario.missing_backends:
        pytest.skip(f"needs {', '.join(sorted(scenario.missing_backends))}, which isn't installed")
    timeout_s = SHORT_TIMEOUT_S if scenario.name in DIFFERENCES else REPLY_TIMEOUT_S
    server = replay.Server(private_engine.host, private_engine.port, timeout_s=timeout_s)

    mismatches = server.mismatches(scenario.recorded)

    assert not mismatches, f"{scenario.recorded.get('about')}\n" + "\n".join(mismatches[:3])


def test_all_recorded_scenarios_are_here():
    """Otherwise nothing above would show that some are missing."""
    assert len(scenarios()) == 360


def test_the_differences_name_scenarios_that_exist():
    assert set(DIFFERENCES) <= set(scenarios())


def test_differences_for_good_are_few():
    assert len(DIFFERENCES) <= 15
