"""
AI commands of every kind, right and wrong: each gets exactly one reply, and every error is a Redis error.

The spoiled commands (`fuzz.commands`) go to a real engine in one write, alone and inside MULTI, in RESP2 and in RESP3.
The PING behind them shows whether the connection is still in step. The engine's log shows exceptions that are no Redis
errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # enters all commands in the table
from fuzz.commands import HAS_TORCH, OLD_SOURCE, SEEDS, Words, ai_commands, make_keys, possible
from redisai_engine.commands.table import COMMANDS
from support.connection import connected, encoded
from support.gateway import Pair
from support.servers import start_engine, start_redis

pytestmark = pytest.mark.slow

EXAMPLES = 1200  # about 20 seconds
FAULT = "the engine failed on this command"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine that only this test uses, and the Redis behind it."""
    redis = start_redis(tmp_path_factory.mktemp("fuzzed-redis"))
    engine = start_engine(tmp_path_factory.mktemp("fuzzed"), "--redis", redis.url)
    if HAS_TORCH:
        engine.client().execute_command("AI.SCRIPTSET", "c", "CPU", "SOURCE", OLD_SOURCE)  # imports torch: seconds
    yield Pair(engine, redis)
    engine.stop()
    redis.stop()


@pytest.fixture(scope="module")
def new_faults(fuzzed: Pair) -> Callable[[], list[str]]:
    """Return a function that returns what the engine has logged about exceptions since its last call."""
    read = 0

    def since() -> list[str]:
        nonlocal read
        text = fuzzed.engine.log.read_text()
        new, read = text[read:], len(text)
        return re.findall(r".*(?:bug in the engine|Traceback).*", new)

    return since


def refused(reply: bytes) -> bool:
    return reply[:1] == b"-"


SEQUENCES = st.lists(ai_commands(), min_size=1, max_size=8)


def test_every_command_has_a_seed():
    assert {seed[0] for seed in SEEDS} == set(COMMANDS)


@given(commands=SEQUENCES, protocol=st.sampled_from([2, 3]), transaction=st.booleans())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(commands=SEEDS, protocol=2, transaction=False)
@example(commands=SEEDS, protocol=3, transaction=True)
def test_every_command_gets_one_reply(
    fuzzed: Pair,
    new_faults: Callable[[], list[str]],
    commands: list[Words],
    protocol: int,
    transaction: bool,  # noqa: FBT001  # drawn
):
    commands = list(filter(possible, commands))
    with connected(fuzzed.engine) as wire:
        make_keys(wire)
        around = ([b"MULTI"], [b"EXEC"]) if transaction else ([b"ECHO", b"["], [b"ECHO", b"]"])
        wire.ask("HELLO", protocol)
        wire.send(b"".join(encoded(tuple(words)) for words in (around[0], *commands, around[1], [b"PING"])))
        first, *replies, last, pong = wire.replies(len(commands) + 3)

        assert pong == b"+PONG\r\n"
        assert not refused(first)
        if transaction:
            assert {reply for reply in replies if not refused(reply)} <= {b"+QUEUED\r\n"}
            assert refused(last) == any(map(refused, replies))
        else:
            assert last == b"$1\r\n]\r\n"
        assert FAULT.encode() not in b"".join((*replies, last))
        assert new_faults() == []
        assert wire.is_quiet()


def test_redis_still_has_one_connection_for_each_client(fuzzed: Pair):
    """None of the spoiled commands leaves a connection open: only the engine's own and this test's remain."""
    clients = fuzzed.redis.client().client_list()

    assert len(clients) <= 4, clients
