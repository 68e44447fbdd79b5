"""
Variables of the processes that build environments, and their secrets.

The builder gets what the engine's own environment says about package indexes, proxies and certificates, uv's names and
pip's, and nothing else. The interpreters that it builds get none of it: their processes have an environment of their
own.

Invariant: what a builder prints is masked before it is kept or told.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

#: Not a variable of uv's, which has an option for it. With any value, packages come from UV_FIND_LINKS alone.
NO_INDEX = "UV_NO_INDEX"

#: Where programs, caches and certificates are, how the network is reached, and the language of messages.
_PASSED = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "NETRC"),
    }
)
#: Variables of uv that would change where or what it installs, or that are for other commands.
_NOT_PASSED = re.compile(
    r"UV_(BREAK_SYSTEM|COMPILE|ENV_FILE|FROZEN|ISOLATED|LOCKED|NO_(BINARY|BUILD|CONFIG|DEV|EDITABLE|PROGRESS|PROJECT|"
    r"SYNC|VERIFY)|PROJECT|PUBLISH|PYTHON$|REQUIRE|RUN|SYSTEM_PYTHON|TOOL|VENV|WORKING_DIR)"
)
#: pip's name, uv's name, and what uv puts between several values.
_FROM_PIP = (
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    ("PIP_NO_INDEX", NO_INDEX, " "),
    ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", " "),
    ("PIP_CONSTRAINT", "UV_CONSTRAINT", " "),
    ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", " "),
    ("PIP_PROXY", "ALL_PROXY", " "),
    ("PIP_CERT", "SSL_CERT_FILE", " "),
    ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", " "),
    ("CURL_CA_BUNDLE", "SSL_CERT_FILE", " "),
)
#: Older names of uv's for the same, which must not be overridden by what pip's say.
_ALSO = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}

#: With one of these the environment says whose certificates count.
_TRUST = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"})

#: A URL's login ends with the last @ of the word: rather too much is hidden than a part of a malformed one shown.
_LOGIN = re.compile(r"(?<=://)[^\s\"'`<>]*@")
_SHORTEST_SECRET = 4  # masking a shorter one would tell more than it hides
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY$")


def builder_variables(environment: Mapping[str, str], cache: Path) -> dict[str, str]:
    """
    Return the variables of a process that builds.

    `cache` is where uv keeps what it has downloaded, unless the environment tells of a place.
    """
    variables = {
        name: value
        for name, value in environment.items()
        if name in _PASSED or (name.startswith("UV_") and not _NOT_PASSED.match(name))
    }
    for pip, uv, separator in _FROM_PIP:
        if environment.get(pip) and uv not in variables and _ALSO.get(uv) not in variables:
            variables[uv] = separator.join(environment[pip].split())
    if not variables.keys() & _TRUST and _has_authorities():
        variables |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}  # uv has renamed it
    if not variables.keys() & {"UV_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}:
        variables["UV_CACHE_DIR"] = str(cache)
    # The engine's own Python is one to build from, even where it isn't on the PATH.
    own = os.path.dirname(os.path.realpath(sys.executable))
    variables["PATH"] = os.pathsep.join(filter(None, (variables.get("PATH"), own)))
    return variables | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _has_authorities() -> bool:
    """Return whether this machine says whose certificates it trusts. uv has a list of its own, pip asks the machine."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())))


def secrets_of(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the logins in the values of variables, longest first."""
    found: set[str] = set()
    for name, value in variables.items():
        for word in {*value.split(), *value.split(",")}:
            for login in _LOGIN.findall(word):
                user, _, password = login[:-1].partition(":")
                found |= {password or user, unquote(password or user)}  # https://TOKEN@host has no password
        if _SECRET_NAME.search(name):
            found.add(value)
    return tuple(sorted((text for text in found if len(text) >= _SHORTEST_SECRET), key=len, reverse=True))


def mask(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return a text without the logins of the URLs in it, and without `secrets`."""
    text = _LOGIN.sub("***@", text)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
