"""Patterns of keys mean what they mean to Redis, which decides about rights by them."""

from __future__ import annotations

import itertools

import pytest
import redis

from redisai_engine.codec.record import record_key, verification_key
from redisai_engine.protocol.patterns import KeyPatterns, matches
from support.gateway import Pair

PATTERNS = [
    *(b"*", b"py:*", b"*:py", b"a**b", b"a*b*c", b"?", b"a?c", b"", b"exact"),
    *(b"[abc]", b"[^abc]", b"[a-c]x", b"[c-a]x", b"[^a-c]*", b"[]", b"[^]", b"[ab", b"[a-", b"[^", b"["),
    *(b"a[", b"[-a]"),
    *(rb"\*", rb"a\?", rb"[\]]", rb"[\-a]", rb"[a\-c]", b"a\\", rb"\\", rb"[\^a]", b"[a^]", b"[a-]]", b"."),
    *("zürich:*".encode(), b"\xff*", b"a\nb", b"a.b", b"(a)", b"a|b", b"$", b"^a"),
]
KEYS = [
    *(b"py:", b"py:x", b"x:py", b"py", b"a", b"b", b"c", b"d", b"x", b"ax", b"dx", b"ab", b"acb", b"abc", b"aXbYc"),
    *(b"*", b"a?", b"a*", b"]", b"-", b"^", b"[", b"[ab", b"\\", b"a\\", b"exact", b"exactly", b".", b"a.b", b"a-"),
    *("zürich:1".encode(), b"\xff\xfe", b"a\nb", b"(a)", b"a|b", b"$", b"^a", b"a]", b"-]", b"[a-", b"[^", b"b]"),
]


@pytest.fixture(scope="module")
def known(pair: Pair) -> redis.Redis:
    """A Redis with all the keys, in a database of their own."""
    client = pair.redis.client(db=9)
    client.mset(dict.fromkeys(KEYS, b""))
    yield client
    client.delete(*KEYS)


def test_a_pattern_matches_what_it_matches_for_redis(known: redis.Redis) -> None:
    for pattern in PATTERNS:
        found = known.keys(pattern)
        assert {key for key in KEYS if matches(pattern, key)} == set(found), pattern


def test_patterns_of_two_parts_match_what_they_match_for_redis(known: redis.Redis) -> None:
    for parts in itertools.product(PATTERNS, PATTERNS[:12]):
        pattern = b"".join(parts)
        assert {key for key in KEYS if matches(pattern, key)} == set(known.keys(pattern)), pattern


def test_any_of_several_patterns_allows_a_key_and_none_allows_none() -> None:
    patterns = KeyPatterns("py:*, exact ,")

    assert [patterns.allow(key) for key in (b"py:a", b"exact", b"exactly", b"", b" py:a")] == [True, True, *[False] * 3]
    assert not KeyPatterns("").allow(b"")


def test_a_model_that_is_being_verified_has_the_rights_of_its_name() -> None:
    patterns = KeyPatterns("py:*,*:chain")

    assert patterns.allow(verification_key(b"py:a", "1"))
    assert patterns.allow(verification_key(b"my:chain", "1"))
    for key in (
        verification_key(b"other", "1"),
        verification_key(b"other", "1:py:a"),
        verification_key(b"other", "{my:chain}:verify:1"),  # only the first braces count
        record_key(b"py:a"),
        b"mlflow-redisai:py:a}:verify:1",
        b"x-mlflow-redisai:{py:a}:verify:1",
        b"mlflow-redisai:{}:verify:1",
    ):
        assert not patterns.allow(key), key
