"""Words from left to right, and numbers."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.commands.grammar.words import Words, double, whole_number


@given(st.lists(st.binary(max_size=3), max_size=6), st.lists(st.integers(0, 4), max_size=6))
def test_what_was_taken_and_what_is_left_make_up_the_arguments(arguments: list[bytes], counts: list[int]):
    taking = Words(arguments)

    taken = [word for count in counts for word in taking.take_many(count)]

    assert taken + taking.rest == arguments


@given(st.lists(st.binary(max_size=3), max_size=3))
def test_past_the_end_there_is_nothing(arguments: list[bytes]):
    taking = Words(arguments)

    assert [taking.take() for _ in range(len(arguments) + 2)] == [*arguments, None, None]
    assert not taking.take_if(b"")
    assert taking.take_many(2) == taking.rest == []


def test_a_keyword_is_taken_in_any_letter_case_and_another_word_is_not():
    taking = Words([b"tAg", b"x"])

    assert taking.take_if(b"TAG")
    assert not taking.take_if(b"TAG")
    assert taking.rest == [b"x"]


@pytest.mark.parametrize(
    "word", ["1e400", "1e-400", "-1e-400", "0x1p5000", "0x1p-2000", "nan", "", " 1", "1 ", "1_0", "1e"]
)
def test_what_strtod_refuses_is_no_number(word: str):
    assert double(word.encode()) is None


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("0e-999", 0.0),
        ("-0.00e9", 0.0),
        ("0x0p-9999", 0.0),
        ("1e-320", 1e-320),
        ("-INF", float("-inf")),
        ("0x.8p1", 1.0),
    ],
)
def test_what_strtod_reads_is_one(word: str, number: float):
    assert double(word.encode()) == number


@given(st.floats(allow_nan=False))
def test_a_number_comes_through_in_both_notations(number: float):
    assert double(repr(number).encode()) == number
    assert number in (inf, -inf) or double(number.hex().encode()) == number


@pytest.mark.parametrize(
    ("word", "number"), [("1e3", 1000), ("01", 1), ("+2.0", 2), ("-0.0", 0), ("1e30", None), ("2.5", None)]
)
def test_a_whole_number_may_be_written_as_a_fraction(word: str, number: int | None):
    assert whole_number(word.encode()) == number
