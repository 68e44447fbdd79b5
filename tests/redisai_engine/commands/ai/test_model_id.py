"""AI._MODELID: every store under a key assigns a new id, whoever stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.connection import Connect, Connection
from support.gateway import MISSING, Pair, predict, store_model
from support.servers import Server

WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


@pytest.fixture
def stored(wire: Connection) -> Connection:
    store_model(wire, "ids:m")
    predict(wire, "ids:m", 1, 2)  # from now on it is known without asking Redis
    return wire


def test_the_id_stays_until_a_model_is_stored_again(stored: Connection) -> None:
    first = stored.ask("AI._MODELID ids:m")

    again = stored.ask("AI._MODELID ids:m")
    store_model(stored, "ids:m")
    other = stored.ask("AI._MODELID ids:m")

    assert first.startswith(b"$")
    assert again == first
    assert other != first


def test_a_key_without_a_model_has_none(wire: Connection) -> None:
    wire.ask("SET ids:text hello")

    assert wire.ask("AI._MODELID ids:nothing") == MISSING
    assert wire.ask("AI._MODELID ids:text") == WRONG_TYPE


def test_inside_multi_redis_is_asked(stored: Connection) -> None:
    known = stored.ask("AI._MODELID ids:m")
    stored.ask("MULTI")
    stored.ask("AI._MODELID ids:m")
    stored.ask("GET ids:nothing")

    assert stored.ask("EXEC") == b"*2\r\n" + known + b"$-1\r\n"


def test_no_prediction_behind_an_id_is_of_an_older_version(
    pair: Pair, new_engine: Callable[..., Server], connect: Connect
) -> None:
    """The model is replaced through another engine, so this one only learns of it from Redis."""
    here, there = connect(pair.engine), connect(new_engine("--redis", pair.redis.url))
    operators = {"Add": 7.0, "Mul": 12.0}
    for turn in range(100):
        operator = list(operators)[turn % 2]
        store_model(there, "ids:both", operator)
        new = there.ask("AI._MODELID ids:both")

        told = here.ask("AI._MODELID ids:both")
        answer = predict(here, "ids:both", 3, 4)

        assert told != new or answer == operators[operator]
