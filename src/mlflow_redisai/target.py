"""
The target: which server to connect to, with which credentials and how. Opens no connection.

A URI and the REDIS_* variables are parsed into a frozen `Target`:

    redisai[:/[/][[username]:[password]@][host][:port][/[db]][?parameter=value&...]]

`VARIABLES` and `PARAMETERS` are the tables behind parsing, the help and docs/reference.md.

Invariant: only `Target.password` and `Target.redis_arguments` give out the password; no repr, label or error contains
it. That is why errors about a URI name the part that is wrong and quote none but parameters: in a malformed URI, any
other part may be the password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from mlflow_redisai.errors import InvalidTarget

SCHEME = "redisai"
FORMS = (
    ("redisai", "localhost:6379, database 0, unless REDIS_* variables are set"),
    ("redisai:/[[username]:[password]@][host][:port][/db]", "every part is optional"),
    ("redisai://[[username]:[password]@][host][:port][/db]", "the same"),
)


@dataclass(frozen=True)
class Target:
    """
    Where the server is and how to connect to it. Timeouts are in seconds; 0 means no limit.

    The TLS fields have redis-py's names, as in the URL of the engine's `--redis`.
    """

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True
    connect_timeout: float = 10.0
    read_timeout: float = 300.0
    timeout: float | None = None  # None: not named
    cluster: bool = False
    protocol: int | None = None

    @classmethod
    def parse(cls, uri: str, environment: Mapping[str, str] | None = None) -> Target:
        """
        Parse a target URI. Raise InvalidTarget.

        `environment` is os.environ unless given. It is used only if the URI names no host, port, database, user name or
        password.
        """
        where, query = _split(uri)
        parameters = _with_tls(_parameters(query))
        parts = _connection_parts(where, by_file="password_file" in parameters)
        if not parts:
            parts = _from_environment(os.environ if environment is None else environment)
        return _checked(cls(**_with_password({**parts, **parameters})))

    @property
    def label(self) -> str:
        """The server's name in errors and logs: `Redis at host:port`, without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"Redis at {host}:{self.port}" + (f"/{self.db}" if self.db else "")

    def redact(self, text: str) -> str:
        """Return `text`, which came from elsewhere, with the password replaced by `***`."""
        for secret in (self.password, self.password and quote(self.password, safe="")):
            if secret:
                text = text.replace(secret, "***")
        return text

    def redis_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for redis-py's clients, without `db` and `retry`."""
        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "password": self.password,
            "socket_connect_timeout": self.connect_timeout or None,
            "socket_timeout": self.read_timeout or None,
            "socket_keepalive": True,
        }
        if self.protocol is not None:
            arguments["protocol"] = self.protocol
        return arguments | self._tls_arguments()

    def _tls_arguments(self) -> dict[str, Any]:
        if not self.tls:
            return {}
        return {
            "ssl": True,
            "ssl_ca_certs": self.ssl_ca_certs,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "ssl_cert_reqs": self.ssl_cert_reqs,
            # The name in an unverified certificate proves nothing, and older versions of redis-py reject this
            # combination.
            "ssl_check_hostname": self.ssl_check_hostname and self.ssl_cert_reqs != "none",
        }


# -- parsing single values -----------------------------------------------------------------------


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ValueError("it must be a whole number from 1 to 65535")
    return int(text)


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("it must be a whole number, 0 to 15 unless the server allows more")
    return int(text)


def _switch(text: str) -> bool:
    values = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in values:
        raise ValueError("it must be true or false")
    return values[text.lower()]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError("it must be a number of seconds, such as 2.5; 0 means no limit")
    return seconds


def _protocol(text: str) -> int:
    if text not in ("2", "3"):
        raise ValueError("it must be 2 or 3")
    return int(text)


def _path(text: str) -> str:
    if not os.path.isfile(text):
        raise ValueError("there is no such file")
    return text


def _cert_reqs(text: str) -> str:
    if text.lower() not in ("required", "optional", "none"):
        raise ValueError("it must be required, optional or none")
    return text.lower()


def _verify(text: str) -> str:
    return "required" if _switch(text) else "none"


@dataclass(frozen=True)
class Parameter:
    """A query parameter or environment variable: the field of `Target` that it sets, its parser, and its help text."""

    name: str
    field: str
    read: Callable[[str], Any]
    help: str


PARAMETERS = (
    Parameter("tls", "tls", _switch, "encrypt the connection (true, false); every other TLS parameter implies it"),
    Parameter(
        "ssl_ca_certs",
        "ssl_ca_certs",
        _path,
        "file of trusted CA certificates (PEM); default: those of the system",
    ),
    Parameter("ssl_certfile", "ssl_certfile", _path, "file of the client's certificate (PEM)"),
    Parameter("ssl_keyfile", "ssl_keyfile", _path, "file of the client's private key (PEM)"),
    Parameter(
        "ssl_cert_reqs",
        "ssl_cert_reqs",
        _cert_reqs,
        "how the server's certificate is checked: required (default), optional or none",
    ),
    Parameter("ssl_check_hostname", "ssl_check_hostname", _switch, "false: accept a certificate for another host name"),
    Parameter("tls_ca", "ssl_ca_certs", _path, "older name of ssl_ca_certs"),
    Parameter("tls_cert", "ssl_certfile", _path, "older name of ssl_certfile"),
    Parameter("tls_key", "ssl_keyfile", _path, "older name of ssl_keyfile"),
    Parameter("tls_verify", "ssl_cert_reqs", _verify, "older form of ssl_cert_reqs: true for required, false for none"),
    Parameter(
        "connect_timeout", "connect_timeout", _seconds, "seconds to wait for a connection (default: 10; 0: no limit)"
    ),
    Parameter("read_timeout", "read_timeout", _seconds, "seconds to wait for a reply (default: 300; 0: no limit)"),
    Parameter(
        "timeout",
        "timeout",
        _seconds,
        "seconds that a call may take from end to end (default: 3600; 0: no limit); create, update, delete and "
        "run-local have an option timeout for it, which then counts for predictions only",
    ),
    Parameter("password_file", "password_file", _path, "file that holds the password, except its last line break"),
    Parameter("protocol", "protocol", _protocol, "version of the Redis protocol, 2 or 3 (default: redis-py's)"),
    Parameter("cluster", "cluster", _switch, "true: the server is a node of a Redis Cluster"),
)

VARIABLES = (
    Parameter("REDIS_HOST", "host", str, "host (localhost)"),
    Parameter("REDIS_PORT", "port", _port, "port (6379)"),
    Parameter("REDIS_DB", "db", _db, "database (0)"),
    Parameter("REDIS_USERNAME", "username", str, "user name (none)"),
    Parameter("REDIS_PASSWORD", "password", str, "password (none)"),
    Parameter("REDIS_PASSWORD_FILE", "password_file", _path, "file that holds the password (none)"),
)

_FORM = "write it as redisai://[[username]:[password]@][host][:port][/db]"


# -- parsing the URI -----------------------------------------------------------------------------


def _split(uri: str) -> tuple[str, str]:
    """Split a URI into the part that names the connection and the query, both without their separators."""
    if not isinstance(uri, str):
        raise InvalidTarget(f"the target must be a string, got a {type(uri).__name__}; {_FORM}")
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != SCHEME:
        raise InvalidTarget(f"the target's scheme must be redisai; {_FORM}")
    if "#" in rest:
        raise InvalidTarget("the target contains a #; in a user name or password write it as %23")
    where, _, query = rest.partition("?")
    if "@" in query:
        raise InvalidTarget(
            "the target has an @ after its ?; in a password write ? as %3F, in a parameter write @ as %40"
        )
    if where and not where.startswith("/"):
        raise InvalidTarget(f"the target needs a slash after {SCHEME}:; {_FORM}")
    return where[2:] if where.startswith("//") else where[1:], query


def _connection_parts(where: str, *, by_file: bool) -> dict[str, Any]:
    """
    Parse `user:password@host:port/db` into fields of `Target`. Empty parts are omitted.

    `by_file`: the password is in a file.
    """
    authority, _, path = where.partition("/")
    if "@" in path:
        raise InvalidTarget("the target has a / before its @; in a user name or password write it as %2F")
    userinfo, _, address = authority.rpartition("@")
    host, port = _address(address)
    db = path.removesuffix("/")
    parts = {
        **_userinfo(userinfo, by_file=by_file),
        "host": host,
        "port": _read_hidden(_port, port, "the target's port") if port else None,
        "db": _read_hidden(_db, db, "the target's database") if db else None,
    }
    return {name: value for name, value in parts.items() if value is not None}


def _userinfo(userinfo: str, *, by_file: bool) -> dict[str, str | None]:
    username, colon, password = userinfo.partition(":")
    if username and not (colon and password) and not by_file:
        # The name is not quoted: it may be a password that was written without its colon.
        raise InvalidTarget("the target has a user name but no password; write username:password@ or :password@")
    return {"username": _unquote(username) or None, "password": _unquote(password) or None}


def _address(address: str) -> tuple[str | None, str]:
    """Split `host:port` or `[IPv6 address]:port`. The port is empty if there is none."""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidTarget("the target's host is malformed; write an IPv6 address in brackets, as in [::1]:6379")
        return _unquote(host) or None, rest[1:]
    if address.count(":") > 1:
        raise InvalidTarget(
            "the target's host has more than one colon; write an IPv6 address in brackets, as in [::1]:6379, and a "
            "password before an @, as in :password@host"
        )
    host, _, port = address.partition(":")
    return _unquote(host) or None, port


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidTarget("the target has a percent-encoded part that is not UTF-8") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for variable in VARIABLES:
        # An empty variable counts as unset.
        if value := environment.get(variable.name):
            found[variable.field] = _read(variable.read, value, f"the variable {variable.name}")
    return found


def _parameters(query: str) -> dict[str, Any]:
    known = {parameter.name: parameter for parameter in PARAMETERS}
    found: dict[str, Any] = {}
    names: dict[str, str] = {}  # by field
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameter = known.get(name)
        if parameter is None:
            named = f" {name!r}" if name.islower() and name.replace("_", "").isalpha() and value else ""
            raise InvalidTarget(f"the target has an unknown parameter{named}; allowed are {', '.join(known)}")
        if parameter.field in found:
            raise InvalidTarget(f"the target has {_twice(name, names[parameter.field])}")
        names[parameter.field] = name
        found[parameter.field] = _read(parameter.read, value, f"the target's parameter {name}")
    return found


def _twice(name: str, before: str) -> str:
    if name == before:
        return f"the parameter {name!r} twice; give it once"
    return f"the parameters {before!r} and {name!r}, which mean the same; give only one of them"


def _with_tls(parameters: dict[str, Any]) -> dict[str, Any]:
    """Set `tls` if any other TLS parameter is given: naming one must never lead to an unencrypted connection."""
    if not any(name.startswith("ssl_") for name in parameters):
        return parameters
    if parameters.get("tls") is False:
        raise InvalidTarget("the target has tls=false and other TLS parameters; remove one or the other")
    return {**parameters, "tls": True}


def _with_password(parts: dict[str, Any]) -> dict[str, Any]:
    """Replace the name of a password's file by the password that it holds."""
    path = parts.pop("password_file", None)
    if path is None:
        return parts
    if "password" in parts:
        raise InvalidTarget("the password is given both by itself and by a file; give it once")
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidTarget(f"the password's file can't be read: {reason}") from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise InvalidTarget("the password's file is empty; it must hold the password")
    return {**parts, "password": password}


def _read(read: Callable[[str], Any], text: str, what: str) -> Any:
    try:
        return read(_unquote(text))
    except ValueError as error:
        # REDIS_PORT may be a whole URL, and a password itself may stand where its file should.
        shown = "malformed" if re.search("[:@]", text) or "password" in what.lower() else repr(text)
        raise InvalidTarget(f"{what} is {shown}: {error}") from None


def _read_hidden(read: Callable[[str], Any], text: str, what: str) -> Any:
    """Read a part without quoting it: in a target whose @ is missing, it may be the password."""
    try:
        return read(_unquote(text))
    except ValueError as error:
        raise InvalidTarget(f"{what} is malformed: {error}") from None


def _checked(target: Target) -> Target:
    """Return the target if its parts are consistent. Raise InvalidTarget."""
    if target.cluster and target.db:
        raise InvalidTarget(f"the target has database {target.db}, but a Redis Cluster has only database 0")
    if target.username and not target.password:
        raise InvalidTarget(
            f"the user {target.username!r} needs a password; set REDIS_PASSWORD, or write username:password@"
        )
    if bool(target.ssl_certfile) != bool(target.ssl_keyfile):
        raise InvalidTarget("the target has only one of ssl_certfile and ssl_keyfile; a client certificate needs both")
    return target
