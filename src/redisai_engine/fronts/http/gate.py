"""
The gate that every request passes: who asks, and whether Redis lets that user in.

Credentials are HTTP Basic, or Bearer with `user:password`. Without any it is Redis' default user. Health checks pass
without: they tell no more than a status.

Invariant: nothing of a request's body is read, beyond what the network brought along, before the gate has opened.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from redisai_engine.errors import UpstreamError
from redisai_engine.fronts.http.access.connection import UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.access.users import Credentials, Users
from redisai_engine.protocol import texts

#: What answers without credentials, because it is asked by machines and tells no more than a status.
OPEN = frozenset(("/v2/health/live", "/v2/health/ready", "/ping", "/health"))

_MOST_BYTES = 8192  # of an Authorization header


def credentials_in(headers: Sequence[tuple[bytes, bytes]]) -> Credentials | None:
    """Return what the header Authorization shows, None without one. Raise RequestRefused for another scheme."""
    found = [value for name, value in headers if name == b"authorization"]
    if not found:
        return None
    if len(found) > 1:
        raise RequestRefused(400, "the request has more than one Authorization header")
    return parse_authorization(found[0])


def parse_authorization(value: bytes) -> Credentials:
    """Return the credentials in the value of an Authorization header. Raise RequestRefused."""
    scheme, _, rest = value.strip().partition(b" ")
    rest = rest.strip()
    if len(value) > _MOST_BYTES:
        raise RequestRefused(401, f"the Authorization header has more than {_MOST_BYTES} bytes")
    if scheme.lower() == b"basic":
        try:
            rest = base64.b64decode(rest, validate=True)
        except (binascii.Error, ValueError):
            raise RequestRefused(401, "the Authorization header isn't Base64, as Basic must be") from None
    elif scheme.lower() != b"bearer":
        raise RequestRefused(401, "the Authorization header must be Basic, or Bearer with user:password")
    user, colon, password = rest.decode("utf-8", "surrogateescape").partition(":")
    return Credentials(user, password) if colon else Credentials("", user)


class Gate:
    """Lets requests in. With `is_protected`, those of other machines only while Redis asks for a password."""

    def __init__(self, users: Users, *, is_protected: bool) -> None:
        self._users = users
        self._is_protected = is_protected

    def known(self, credentials: Credentials | None, *, is_local: bool) -> UserConnection | None:
        """Return the connection of a user who needn't be asked about now."""
        if self._is_protected and not is_local:
            return None
        return self._users.known(credentials)

    async def admit(self, headers: Sequence[tuple[bytes, bytes]], *, is_local: bool) -> UserConnection:
        """Return the connection of the user who asks. Raise EngineError if there is no entry."""
        credentials = credentials_in(headers)
        if self._is_protected and not is_local and await self._users.is_open():
            raise RequestRefused(403, texts.PROTECTED.partition(" ")[2])
        return await self._users.admit(credentials)

    async def reach(self) -> None:
        """Return once Redis has answered, whatever it thinks of the default user. Raise EngineError if it doesn't."""
        try:
            await self._users.admit(None)
        except UpstreamError as error:
            if not error.wire.startswith("NOAUTH"):
                raise
