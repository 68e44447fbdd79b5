"""Addresses of the machine that runs the tests."""

from __future__ import annotations

import socket

import pytest


def address_of_this_machine(family: socket.AddressFamily) -> str:
    """Return an address that others would see, from which a connection isn't a loopback one. Sends nothing."""
    somewhere = "192.0.2.99" if family == socket.AF_INET else "2001:db8::99"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((somewhere, 9))
        except OSError:
            pytest.skip("this machine has no address but loopback ones")
        host: str = probe.getsockname()[0]
    return host
