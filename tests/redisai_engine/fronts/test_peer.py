"""Which addresses are this machine's own."""

from __future__ import annotations

import pytest

from redisai_engine.fronts.peer import is_on_this_machine


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 5),
        ("127.8.9.10", 5),
        ("::1", 5, 0, 0),
        ("::ffff:127.0.0.1", 5, 0, 0),
        "/run/engine.sock",
        "",
        b"\0abstract",
    ],
)
def test_loopback_and_unix_sockets_are_this_machine(address: object):
    assert is_on_this_machine(address)


@pytest.mark.parametrize(
    "address",
    [
        ("0.0.0.0", 5),
        ("10.0.0.1", 5),
        ("172.17.0.1", 5),
        ("128.0.0.1", 5),
        ("::", 5, 0, 0),
        ("fe80::1%eth0", 5, 0, 2),
        ("::ffff:10.0.0.1", 5, 0, 0),
        ("::127.0.0.1", 5, 0, 0),
        None,
    ],
)
def test_everything_else_is_not(address: object):
    assert not is_on_this_machine(address)
