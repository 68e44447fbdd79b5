"""The last hour of a deployment: what is counted comes back by the second, bounded, whatever is deployed meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.errors import ModelRunError
from redisai_engine.execution.figures import DURATIONS, OWN, RESP, Figures, Ledger
from redisai_engine.watching.history import (
    COARSE,
    COARSE_SECONDS,
    FINE,
    MOST_DEPLOYMENTS,
    NAMES,
    History,
    merged,
    quantile,
)

PLACE = (0, b"m")


def answer(figures: Figures, seconds: float = 0.001, front: int = RESP) -> None:
    figures.ran(seconds, 1)
    figures.fronts[front].succeeded(seconds, seconds / 10)


def totals(history: History, part: str) -> dict[str, float]:
    slots = history.of(PLACE)[part]
    return {name: sum(counts[place] for _, counts in slots) for place, name in enumerate(NAMES)}


def test_each_second_has_what_was_counted_in_it() -> None:
    ledger = Ledger()
    history = History(ledger)
    figures = ledger.of(PLACE, b"1", "ONNX", "CPU")
    for second in range(100, 110):
        for _ in range(second - 99):
            answer(figures)
        history.take(second)
    history.take(110)  # nothing has come

    slots = history.of(PLACE)["fine"]
    assert [(second, counts[0]) for second, counts in slots] == [(second, second - 99) for second in range(100, 110)]
    assert totals(history, "coarse") == pytest.approx(totals(history, "fine"))


def test_the_engines_own_runs_are_no_requests() -> None:
    ledger = Ledger()
    history = History(ledger)
    answer(ledger.of(PLACE, b"1", "ONNX", "CPU"), front=OWN)
    history.take(1)

    assert history.of(PLACE)["fine"] == []


def test_errors_are_counted_and_the_last_ones_have_their_text() -> None:
    ledger = Ledger()
    history = History(ledger)
    figures = ledger.of(PLACE, b"1", "ONNX", "CPU")
    for number in range(100):
        figures.fronts[RESP].failed(ModelRunError(f"ERR {number} " + "x" * 10_000), 0.001)
    history.take(1)

    assert totals(history, "fine")["errors"] == 100
    assert [text[:6] for _, _, text in figures.fronts[RESP].last_errors] == [
        f"ERR {number}" for number in range(90, 100)
    ]
    assert max(len(text) for _, _, text in figures.fronts[RESP].last_errors) == 300


def test_an_hour_is_kept_and_no_more() -> None:
    ledger = Ledger()
    history = History(ledger)
    figures = ledger.of(PLACE, b"1", "ONNX", "CPU")
    for second in range(10_000):
        answer(figures)
        history.take(second)

    found = history.of(PLACE)
    assert [second for second, _ in found["fine"]] == list(range(10_000 - FINE, 10_000))
    assert len(found["coarse"]) == COARSE
    assert found["coarse"][-1][0] - found["coarse"][0][0] == (COARSE - 1) * COARSE_SECONDS
    assert all(counts[0] == COARSE_SECONDS for _, counts in found["coarse"][:-1])


def test_many_deployments_are_bounded_and_the_busiest_stay() -> None:
    ledger = Ledger()
    history = History(ledger)
    busy = ledger.of(PLACE, b"1", "ONNX", "CPU")
    for number in range(MOST_DEPLOYMENTS + 30):
        answer(ledger.of((0, b"%d" % number), b"1", "ONNX", "CPU"))
        answer(busy)
        history.take(number)

    kept = [number for number in range(MOST_DEPLOYMENTS + 30) if history.of((0, b"%d" % number))["fine"]]
    assert len(kept) == MOST_DEPLOYMENTS - 1
    assert len(history.of(PLACE)["fine"]) == MOST_DEPLOYMENTS + 30


def test_a_mark_says_when_a_version_came_and_its_counts_go_on() -> None:
    """Also when so many versions have come that the oldest ones are added up in the ledger."""
    ledger = Ledger()
    history = History(ledger)
    for number in range(30):
        answer(ledger.of(PLACE, b"%d" % number, "ONNX", "CPU"))
        history.take(number)

    assert history.of(PLACE)["marks"] == [(number, str(number)) for number in range(10, 30)]
    assert totals(history, "fine")["requests"] == 30


def test_a_deleted_deployment_is_forgotten() -> None:
    ledger = Ledger()
    history = History(ledger)
    answer(ledger.of(PLACE, b"1", "ONNX", "CPU"))
    history.take(1)
    ledger.forget(PLACE)
    history.take(2)

    assert history.of(PLACE) == {"fine": [], "coarse": [], "marks": []}


def test_processes_are_added_up_by_the_second() -> None:
    ledger = Ledger()
    history = History(ledger)
    answer(ledger.of(PLACE, b"1", "ONNX", "CPU"))
    history.take(7)
    part = history.of(PLACE)

    whole = merged([part, part])
    assert [(second, counts[0]) for second, counts in whole["fine"]] == [(7, 2)]
    assert whole["marks"] == [(7, "1")]


def test_the_last_seconds_are_told_of_all_deployments() -> None:
    ledger = Ledger()
    history = History(ledger)
    figures = ledger.of(PLACE, b"1", "ONNX", "CPU")
    for second in range(20):
        answer(figures)
        history.take(second)

    [(place, counts)] = history.recent(9)
    assert (place, counts[0]) == (PLACE, 10)


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_in_the_bucket_of_the_exact_one(durations: list[float], part: float) -> None:
    ledger = Ledger()
    history = History(ledger)
    figures = ledger.of(PLACE, b"1", "ONNX", "CPU")
    for duration in durations:
        answer(figures, duration)
    history.take(1)
    [(_, counts)] = history.of(PLACE)["fine"]

    found = quantile(counts, part)
    exact = sorted(durations)[max(0, -int(-part * len(durations) // 1) - 1)]
    low = max((bound for bound in DURATIONS if bound < exact), default=0.0)
    high = min((bound for bound in DURATIONS if bound >= exact), default=DURATIONS[-1])
    assert found is not None
    assert low * 0.999 <= found <= high * 1.001


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile([0.0] * (len(NAMES) + len(DURATIONS) + 1), 0.5) is None
