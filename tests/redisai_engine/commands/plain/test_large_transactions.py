"""EXEC's reply is rewritten in slices, between which other clients have their turn, however much is queued."""

from __future__ import annotations

from typing import Any

import pytest

from redisai_engine.commands.plain.transactions import finish
from redisai_engine.commands.steps import Encode
from redisai_engine.commands.transaction import Entry, Transaction
from redisai_engine.protocol import replies
from support.connection import Connection

COUNT = 10_000
MOST_AT_ONCE = 1000


@pytest.mark.parametrize("counts", [(1,), (2, 1), (1, 3, 1)], ids=str)
def test_no_more_than_a_slice_is_answered_at_once(counts: tuple[int, ...]) -> None:
    entries = [Entry(count=counts[number % len(counts)], reply=b":%d\r\n" % number) for number in range(COUNT)]
    raw = replies.array([b"+OK\r\n"] * sum(entry.count for entry in entries))
    nobody: Any = None  # only entries with a plan ask the client
    body = finish(nobody, Transaction(entries), raw)

    pauses, outcome = 0, None
    while True:
        try:
            step = body.send(outcome)
        except StopIteration as stop:
            reply = stop.value
            break
        assert isinstance(step, Encode)
        outcome = step.function()
        pauses += 1

    assert pauses >= COUNT // MOST_AT_ONCE
    assert reply == replies.array([entry.reply for entry in entries])


@pytest.mark.parametrize("count", [1, 999, 2500])
def test_each_command_has_its_own_answer_in_order(wire: Connection, count: int) -> None:
    kinds = ["SET large:k {}", "GETSET large:k {}", "AI.TENSORSET large:t INT64 1 VALUES {}", "TYPE large:k", "ECHO {}"]
    wire.send("MULTI", *[kinds[number % 5].format(number) for number in range(count)])
    assert wire.replies(1 + count) == [b"+OK\r\n", *[b"+QUEUED\r\n"] * count]

    answers = wire.ask("EXEC")

    expected = []
    for number in range(count):
        before = str(number - 1).encode()
        own = str(number).encode()
        kind = number % 5
        echoed = before if kind == 1 else own
        bulk = b"$%d\r\n%s\r\n" % (len(echoed), echoed)
        expected.append((b"+OK\r\n", bulk, b"+OK\r\n", b"+string\r\n", bulk)[kind])
    assert answers == replies.array(expected)
