"""Rows that are sent as chunks: their sizes, their order, and what an error ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mlflow_redisai.predict.chunks import (
    CHUNK_BYTES,
    CHUNK_SECONDS,
    FEWEST_ROWS,
    FIRST_ROWS,
    IN_FLIGHT,
    Chunks,
    Pace,
    is_one_chunk,
)
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import join
from redisai_engine.protocol.tensor import Tensor
from support.mappings import matrix, unnamed

MOST = 1 << 20


def encoded(rows: int, mapping: Mapping) -> list[Tensor]:
    return Encoder(mapping).encode(np.arange(rows * 2, dtype=float).reshape(rows, 2))


def settled(rows: int) -> Pace:
    """Return a pace that has found its number of rows."""
    pace = Pace()
    pace.rows, pace.grows = rows, False
    return pace


def numbers(answers: object, rows: int) -> list[object]:
    joined: list[object] = join(answers, rows)[0].array().tolist()  # type: ignore[arg-type]
    return joined


# -- how many rows


def learned(seconds_per_row: float, *, overhead: float = 0.0, most: int = MOST, chunks: int = 40) -> Pace:
    pace = Pace()
    for _ in range(chunks):
        rows = min(pace.rows, most)
        pace.took(rows, overhead + rows * seconds_per_row, most)
    return pace


@pytest.mark.parametrize("seconds_per_row", [1e-7, 3e-6, 25e-6, 1e-4, 1e-3])
def test_chunks_come_to_take_about_as_long_as_they_should(seconds_per_row: float) -> None:
    seconds = learned(seconds_per_row).rows * seconds_per_row

    assert CHUNK_SECONDS / 2 < seconds < CHUNK_SECONDS * 2
    assert not learned(seconds_per_row).grows


@pytest.mark.parametrize("most", [1, 7, 100, 50_000])
def test_chunks_never_have_more_rows_than_may_be_sent_at_once(most: int) -> None:
    pace = learned(1e-9, most=most)

    assert pace.rows <= max(most, FIRST_ROWS)
    assert not pace.grows


def test_chunks_never_have_few_rows_however_long_each_takes() -> None:
    assert learned(1.0).rows == FEWEST_ROWS
    assert learned(1.0, most=3).rows <= FIRST_ROWS


def test_a_slow_first_chunk_is_made_up_for() -> None:
    """A server may have had to load the model first."""
    pace = Pace()
    pace.took(FIRST_ROWS, 2.0, MOST)
    for _ in range(10):
        pace.took(pace.rows, pace.rows * 1e-5, MOST)

    assert pace.rows * 1e-5 > CHUNK_SECONDS / 2


def test_a_chunk_of_another_size_tells_nothing() -> None:
    pace = settled(1024)

    pace.took(1000, 1e-6, MOST)
    pace.took(2048, 100.0, MOST)

    assert pace.rows == 1024


# -- sending them


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 1000, 20_011])
@pytest.mark.parametrize("pace", [Pace, lambda: settled(64)], ids=["unknown", "known"])
@pytest.mark.parametrize("batch", [None, 7])
def test_answers_come_back_in_the_order_of_the_rows(rows: int, pace: Callable[[], Pace], batch: int | None) -> None:
    mapping = unnamed(batch=batch)
    tensors = encoded(rows, mapping)
    random = np.random.default_rng(rows)

    def send(chunk: list[Tensor]) -> list[Tensor]:
        time.sleep(random.uniform(0, 1e-3))  # nothing is waited for: so they come back in any order
        return chunk

    answers = Chunks(tensors, mapping, 5000, pace()).run(send)

    assert numbers(answers, rows) == tensors[0].array().tolist()


@pytest.mark.parametrize("rows", [1, FEWEST_ROWS - 1, FEWEST_ROWS])
@pytest.mark.parametrize("pace", [Pace(), settled(FEWEST_ROWS), settled(1 << 20)], ids=["unknown", "slow", "fast"])
def test_an_input_that_is_one_chunk_is_sent_as_it_is_and_tells_nothing(rows: int, pace: Pace) -> None:
    mapping = unnamed()
    tensors = encoded(rows, mapping)
    before = pace.rows, pace.grows
    sent: list[list[Tensor]] = []

    Chunks(tensors, mapping, MOST, pace).run(lambda chunk: sent.append(chunk) or chunk)  # type: ignore[func-returns-value]

    assert is_one_chunk(tensors, mapping, rows) == (rows < FEWEST_ROWS)
    if rows < FEWEST_ROWS:
        assert sent == [tensors]
        assert (pace.rows, pace.grows) == before


def test_few_rows_are_not_one_chunk_if_they_are_large_or_the_model_takes_a_fixed_number() -> None:
    mapping = unnamed(CHUNK_BYTES // 8)
    wide = Encoder(mapping).encode(np.zeros((2, CHUNK_BYTES // 8)))

    assert not is_one_chunk(wide, mapping, 2)
    assert not is_one_chunk(encoded(2, unnamed(batch=7)), unnamed(batch=7), 2)


def test_text_columns_are_cut_as_well() -> None:
    mapping = matrix("a", kind="string")
    words = [f"w{number}" * (number % 5) for number in range(3000)]

    answers = Chunks(Encoder(mapping).encode({"a": words}), mapping, 700, settled(256)).run(lambda chunk: chunk)

    assert [row[0] for row in numbers(answers, len(words))] == words  # type: ignore[index]


def test_several_are_on_their_way_but_never_more_than_allowed() -> None:
    """All threads have to meet before any goes on."""
    mapping, lock, at_once, seen = unnamed(), threading.Lock(), 0, []
    together = threading.Barrier(IN_FLIGHT)

    def send(chunk: list[Tensor]) -> list[Tensor]:
        nonlocal at_once
        with lock:
            at_once += 1
            seen.append(at_once)
        together.wait(timeout=30)
        with lock:
            at_once -= 1
        return chunk

    Chunks(encoded(16 * IN_FLIGHT * 3, mapping), mapping, 16, settled(16)).run(send)

    assert max(seen) == IN_FLIGHT


def test_what_fits_into_one_chunk_starts_no_thread() -> None:
    mapping, threads = unnamed(), set()

    def send(chunk: list[Tensor]) -> list[Tensor]:
        threads.add(threading.current_thread())
        return chunk

    for rows, pace in ((64, settled(64)), (1, Pace()), (300, Pace())):
        Chunks(encoded(rows, mapping), mapping, MOST, pace).run(send)

    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("failing", [0, 5, 40])
def test_one_error_ends_all_and_leaves_nothing_running(failing: int) -> None:
    mapping, sent = unnamed(), []

    def send(chunk: list[Tensor]) -> list[Tensor]:
        sent.append(chunk)
        if len(sent) > failing:
            raise ValueError(f"chunk {failing}")
        return chunk

    with pytest.raises(ValueError, match=f"chunk {failing}"):
        Chunks(encoded(16_000, mapping), mapping, 16, settled(16)).run(send)

    assert len(sent) <= failing + IN_FLIGHT
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mlflow-redisai-predict")]


def test_rows_that_depend_on_each_other_are_sent_together_or_not_at_all() -> None:
    mapping = replace(unnamed(), independent=False)

    assert len(Chunks(encoded(6, mapping), mapping, 6, settled(16)).run(lambda chunk: chunk)) == 1
    with pytest.raises(InputMismatch):
        Chunks(encoded(7, mapping), mapping, 6, settled(16))
