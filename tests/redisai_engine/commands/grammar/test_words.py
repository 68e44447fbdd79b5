"""Words from left to right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.commands.grammar.words import Words


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
