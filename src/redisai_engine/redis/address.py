"""
The address of Redis, and how a connection to it is opened.

URLs have redis-py's forms and parameters. They can't select a database here, because each client selects its own.

Invariant: no error and no text of an address contains a password. An error names the part that is wrong and never
quotes the URL: in a malformed one, any part may be the password.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from redisai_engine.certificates import load_authorities, load_certificate, modern
from redisai_engine.errors import StartError

_TCP, _TLS, _UNIX = "redis", "rediss", "unix"
_FORMS = {
    _TCP: "redis://[username:password@]host[:port]",
    _TLS: "rediss://[username:password@]host[:port]",
    _UNIX: "unix://[username:password@]/path/to/socket",
}
#: The query parameters, by redis-py's names.
_LOGIN = ("db", "username", "password")
_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_CHECKS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}  # as a client's
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where Redis listens: the path of a unix socket, or a host and port.

    User name and password are for the engine's own connection. Clients authenticate for themselves.
    """

    path: str = ""
    host: str = "127.0.0.1"
    port: int = 6379
    tls: ssl.SSLContext | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}"

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Open a connection for the protocol that `factory` makes. Raise OSError."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(factory, self.path)
        else:
            await loop.create_connection(factory, self.host, self.port, ssl=self.tls)

    @property
    def credentials(self) -> tuple[bytes, ...]:
        """The arguments of AUTH; empty without a password."""
        if not self.password:
            return ()
        return tuple(part.encode() for part in (self.username, self.password) if part)


def parse_address(url: str) -> Address:
    """Parse a redis://, rediss:// or unix:// URL. Raise StartError that names the wrong part and what is allowed."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _FORMS:
        raise StartError(f"--redis must be a URL of one of the forms {', '.join(_FORMS.values())}")
    _refuse_what_hides_a_password(rest, scheme)
    where, _, query = rest.partition("?")
    authority, slash, path = where.partition("/")
    userinfo, _, address = authority.rpartition("@")
    username, _, password = userinfo.partition(":")
    parameters = _parameters(query, scheme)
    username = _unquoted(username) or parameters.pop("username", "")
    password = _unquoted(password) or parameters.pop("password", "")
    _refuse_database(parameters.pop("db", "0"), "parameter db")
    if scheme == _UNIX:
        return Address(path=_socket_path(address, _unquoted(slash + path)), username=username, password=password)
    _refuse_database(path.removesuffix("/") or "0", "path")
    host, port = _host_and_port(address)
    tls = _context(parameters) if scheme == _TLS else None
    return Address(host=host, port=port, tls=tls, username=username, password=password)


def with_password_of(address: Address, path: str) -> Address:
    """
    Return the address with the password that a file holds. Without a path: the same.

    Raise StartError for a file that can't be read or is empty, and for a password in two places.
    """
    if not path:
        return address
    if address.password:
        raise StartError("--redis has a password and --redis-password-file names another; give it once")
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"the file of --redis-password-file can't be read: {reason}") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise StartError("the file of --redis-password-file is empty; it must hold the password")
    return replace(address, password=password)


def _refuse_what_hides_a_password(rest: str, scheme: str) -> None:
    """Refuse characters that would cut a password in two and take a part of it for something else."""
    form = f"write it as {_FORMS[scheme]}"
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise StartError(f"--redis has a blank or control character in its URL; write it as %20 or %HEX; {form}")
    if "#" in rest:
        raise StartError(f"--redis has a # in its URL; in a user name or password write it as %23; {form}")
    if "@" in rest.partition("?")[2]:
        raise StartError(f"--redis has an @ behind a ?; in a password write ? as %3F, in a parameter @ as %40; {form}")
    authority, _, path = rest.partition("?")[0].partition("/")
    if authority and "@" in path:
        raise StartError(f"--redis has an @ behind a /; in a user name or password write / as %2F; {form}")


def _parameters(query: str, scheme: str) -> dict[str, str]:
    allowed = (*_LOGIN, *_TLS_PARAMETERS) if scheme == _TLS else _LOGIN
    found = dict(parse_qsl(query, keep_blank_values=True))
    if not found.keys() <= set(allowed):
        raise StartError(
            f"--redis has a parameter that {scheme}:// doesn't know; it knows {', '.join(allowed)}, each as name=value"
        )
    return found


def _refuse_database(text: str, part: str) -> None:
    if text != "0":
        raise StartError(
            f"--redis can't name a database, as the {part} of its URL does: clients choose theirs with SELECT"
        )


def _socket_path(before: str, path: str) -> str:
    if before or not path.strip("/"):
        raise StartError(f"--redis lacks the path of a socket, or the slash that it begins with: write {_FORMS[_UNIX]}")
    return path


def _host_and_port(address: str) -> tuple[str, int]:
    parts = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[^:\[\]]*))?", address)
    if parts is None:
        raise StartError("--redis has a malformed host: write host:port, and an IPv6 address as in [::1]:6379")
    host = _unquoted(parts["v6"] or parts["name"]).lower() or "127.0.0.1"
    try:
        host.encode("idna")
    except UnicodeError:
        raise StartError("--redis has a malformed host: it must be a name or an address") from None
    port = parts["port"] or "6379"
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise StartError("--redis has a bad port: it must be from 1 to 65535")
    return host, int(port)


def _unquoted(text: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise StartError("--redis has a percent-encoded part that is not UTF-8") from None
    if "\0" in plain:
        raise StartError("--redis has a zero byte (%00) in its URL")
    return plain


def _context(given: dict[str, str]) -> ssl.SSLContext:
    check, named = given.get("ssl_cert_reqs", "required").lower(), given.get("ssl_check_hostname", "true").lower()
    if check not in _CHECKS:
        raise StartError(f"--redis has a bad ssl_cert_reqs: it must be {', '.join(_CHECKS)}")
    if named not in _SWITCH:
        raise StartError("--redis has a bad ssl_check_hostname: it must be true or false")
    context = modern(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = _SWITCH[named] and check != "none"
    context.verify_mode = _CHECKS[check]
    if "ssl_ca_certs" in given:
        load_authorities(context, given["ssl_ca_certs"], "the ssl_ca_certs of --redis")
    else:
        context.load_default_certs()
    if bool(given.get("ssl_certfile")) != bool(given.get("ssl_keyfile")):
        raise StartError("ssl_certfile and ssl_keyfile of --redis go together: give both or neither")
    if given.get("ssl_certfile"):
        names = ("the ssl_certfile of --redis", "the ssl_keyfile of --redis")
        load_certificate(context, given["ssl_certfile"], given["ssl_keyfile"], names=names)
    return context
