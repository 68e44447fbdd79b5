"""
What uv says when it fails, in our own words: which package is concerned, and what would bring it.

Invariant: a text that is in no row of the table is told as it is, cut.
"""

from __future__ import annotations

import re
import sysconfig

_SHOWN = 200  # characters of uv's own words
_PACKAGE = r"(?P<package>[A-Za-z0-9][\w.-]*(?:\[[\w,.-]*\])?(?:[=<>!~]=?[\w.*+!,<>=~-]+)?)"

_NO_WHEEL = (
    "{package} has no wheel for Python {python} on {machine}: an index that has one is needed, or --env-source-builds"
)
_NOT_THERE = "the package index has no {package}: UV_INDEX, or PIP_EXTRA_INDEX_URL, names another index"
_NOT_RUNNING = "{package} doesn't run on Python {python}"
_UNREACHABLE = "the package index can't be reached: UV_DEFAULT_INDEX, or PIP_INDEX_URL, names the one to use"

#: What uv's text, with all white space as single blanks, contains, and what that means. The first row that fits counts.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"No space left on device|os error 28|Disk quota exceeded", "there is no space left on the disk of env-dir"),
    (r"python-build-standalone", "this machine has no Python {minor}, and uv can't download one"),
    (r"Hash mismatch for `?" + _PACKAGE, "what the package index has as {package} isn't what the hashes say"),
    (
        r"versions pinned with.*: " + _PACKAGE,
        "{package} has a hash, so it needs an exact version as well: {package}==...",
    ),
    (r"`?--require-hashes`? mode.*: " + _PACKAGE, "{package} has no hash, and the model's requirements have hashes"),
    (
        r"(401|403|407) (Unauthorized|Forbidden|Proxy)|[Mm]issing credentials",
        "the package index refuses the engine: a login belongs into the index's URL or UV_INDEX_NAME_PASSWORD",
    ),
    (
        r"invalid peer certificate|UnknownIssuer|certificate verify",
        "the certificate of the package index isn't trusted: SSL_CERT_FILE names the authorities that are",
    ),
    (_PACKAGE + r" was not found in the cache", "{package} isn't in uv's cache, and UV_OFFLINE forbids to fetch it"),
    (r"error sending request|dns error|Connection refused|[Cc]onnect error|timed out", _UNREACHABLE),
    (r"Failed to (fetch|download):? `?https?:", _UNREACHABLE),
    (_PACKAGE + r" has no (usable )?wheels", _NO_WHEEL),
    (r"versions of " + _PACKAGE + r" have no usable wheels", _NO_WHEEL),
    (r"does not satisfy Python.*? (?:all versions of|you require) " + _PACKAGE, _NOT_RUNNING),
    (_PACKAGE + r" depends on Python", _NOT_RUNNING),
    (_PACKAGE + r" was not found in", _NOT_THERE),
    (r"there (?:is|are) no versions? of " + _PACKAGE, _NOT_THERE),
    (
        r"depends? on " + _PACKAGE + r" and (?:only [^,]{0,200} is available|[^,]{0,100} (?:is|are) available)",
        _NOT_THERE,
    ),
    (r"is available and .{0,200}? depends? on " + _PACKAGE, _NOT_THERE),
    (r"[Oo]nly .{0,80}? (?:is|are) available.*? you require " + _PACKAGE, _NOT_THERE),
    (r"Failed to build `?" + _PACKAGE, "{package} can't be built from its source"),
    (r"No interpreter found for Python", "this machine has no Python {minor}, and uv doesn't download one"),
    (r"you require|depends on", "its requirements exclude each other"),
)


def explain(text: str, python: str, minor: str) -> str:
    """Return what has gone wrong, and uv's first telling words. `minor` is the Python wanted, `python` the one used."""
    words = " ".join(re.sub("[│├╰─▶×╭╯]", " ", text).split())
    said = _telling(words)
    for pattern, meaning in _MEANINGS:
        found = re.search(pattern, words, re.DOTALL)
        if found is not None:
            package = (found.groupdict().get("package") or "").rstrip(".,;:")
            facts = {"package": package, "python": python, "minor": minor, "machine": sysconfig.get_platform()}
            return f"{meaning.format(**facts)} (uv: {said})"
    return f"uv can't build it: {said}"


def _telling(words: str) -> str:
    """Return uv's reason, without what it has done before, and cut."""
    begins = [words.find(mark) for mark in ("cause: ", "Because ", "error: ") if mark in words]
    text = words[begins[0] :].removeprefix("cause: ").removeprefix("error: ") if begins else words
    text = text.partition(" hint: ")[0]
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
