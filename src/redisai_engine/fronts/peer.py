"""Where a connection comes from, by the address that the system tells."""

from __future__ import annotations

import ipaddress


def is_on_this_machine(address: object) -> bool:
    """
    Return whether a peer's address is a loopback address or that of a unix socket.

    The name of this machine leads to another address, as in Redis. None, for a connection that has ended, does not
    count.
    """
    if not isinstance(address, tuple):
        return isinstance(address, str | bytes)
    host = ipaddress.ip_address(address[0])
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    return host.is_loopback
