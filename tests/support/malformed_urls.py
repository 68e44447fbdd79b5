"""URLs of a Redis with a password, most of them malformed: what people type who forget to encode it, or a part."""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

#: A password is these two with something between them, which may cut it in two.
HALVES = ("S3CRET", "Cr3tPW")
_BETWEEN = [
    "",
    "[",
    "]",
    "/",
    "?",
    "#",
    "@",
    ":",
    "%",
    "%ZZ",
    "%FF",
    "%00",
    "%40",
    "%2F",
    " ",
    "\n",
    "\0",
    "&",
    "=",
    "é",
]
_HOSTS = ["h", "", "127.0.0.1", "[::1]", "[::1", "::1]", "::1", "h h", "a..b", "a" * 80, "%68", "%FF", "[fe80::1%25lo]"]
_PORTS = ["", ":", ":1", ":0", ":99999", ":x", ":-1", ":1:2", ":٣"]
_PATHS = ["", "/", "/0", "/3", "/x", "//", "/run/r.sock"]


@st.composite
def urls_with_a_password(draw: st.DrawFn, schemes: tuple[str, ...]) -> str:
    """Return a URL in which the password may stand at its place, elsewhere, or in two."""
    password = draw(st.sampled_from(_BETWEEN)).join(HALVES)
    scheme = draw(st.sampled_from([*schemes, "http", "", password]))
    separator = draw(st.sampled_from(["://", "://", "://", ":/", ":", "", "//"]))
    user = draw(st.sampled_from(["", "me", "m%40e", "%FF"]))
    at = draw(st.sampled_from(["@", "@", ""]))
    assume(at or "@" not in password)  # then the second half is a host, and nothing is malformed
    host, port, path = (draw(st.sampled_from(parts)) for parts in (_HOSTS, _PORTS, _PATHS))
    query = draw(st.sampled_from(["", "?x=1", f"?password={password}", f"?{password}=1", "?db=7", "?ssl_cert_reqs=no"]))
    return f"{scheme}{separator}{user}:{password}{at}{host}{port}{path}{query}"


def shows_a_part(text: str) -> bool:
    """Return whether a text has one of the password's halves, in any case."""
    return any(half.lower() in text.lower() for half in HALVES)
