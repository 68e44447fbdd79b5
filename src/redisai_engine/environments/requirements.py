"""
What packages a client asks for, read with distrust.

Requirements are names with versions, extras, markers and hashes. Everything else that a requirements file may contain
is refused: files, folders, URLs and repositories, which would let a client choose what the engine's user reads and
where from. Options that name a package index are left out, because the index is the operator's choice.

Invariant: the lines of a `Requirements` are written anew from what was parsed, so they hold nothing but that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from redisai_engine.environments.variables import mask
from redisai_engine.errors import EnvironmentFailure

MOST_REQUIREMENTS = 1000
_LONGEST = 50_000  # characters of a line; NumPy has 70 wheels with a hash of 71 characters each
_SHOWN = 100
_INDEX_OPTIONS = {
    "-i",
    "--index-url",
    "--extra-index-url",
    "--no-index",
    "-f",
    "--find-links",
    "--trusted-host",
}
_HASH = re.compile(r"\s--hash[= ](?P<hash>\S+)")
_GOOD_HASH = re.compile(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True, slots=True)
class Requirements:
    """
    The lines for uv, sorted. `hashed` says that each has a hash.

    `left_out` are the options without effect, with passwords masked.
    """

    lines: tuple[str, ...]
    hashed: bool = False
    left_out: tuple[str, ...] = ()


def read_requirements(lines: Iterable[object]) -> Requirements:
    """Check the lines of a requirements file. Raise EnvironmentFailure that names the line and what is allowed."""
    kept: set[str] = set()
    left_out: list[str] = []
    for line in _plain(lines):
        if line.startswith("-"):
            left_out.append(_index_option(line))
        else:
            kept.add(_requirement(line))
    unhashed = sorted(line for line in kept if "--hash" not in line)
    if unhashed and len(unhashed) < len(kept):
        raise EnvironmentFailure(f"its requirement {unhashed[0][:_SHOWN]!r} has no hash, but others have: give all one")
    return Requirements(tuple(sorted(kept)), bool(kept) and not unhashed, tuple(left_out))


def _plain(lines: Iterable[object]) -> Iterator[str]:
    """Yield the lines that say something. Raise EnvironmentFailure for too many, too long or unprintable ones."""
    for number, line in enumerate(lines, 1):
        if number > MOST_REQUIREMENTS:
            raise EnvironmentFailure(f"it has more than {MOST_REQUIREMENTS} requirements")
        if not isinstance(line, str) or len(line) > _LONGEST:
            raise EnvironmentFailure(f"requirement {number} isn't a text of at most {_LONGEST} characters")
        text = _COMMENT.sub("", line.replace("\t", " ")).strip()
        if not text.isprintable() or "$" in text:  # uv replaces ${NAME} by the builder's variable
            raise _refusal(text, "it contains a dollar sign or a character that can't be printed")
        if text:
            yield text


def _index_option(line: str) -> str:
    name = re.split(r"[=\s]", line, maxsplit=1)[0]
    if name not in _INDEX_OPTIONS:
        raise _refusal(line, "options other than --hash aren't allowed")
    return mask(line)[:_SHOWN]


def _requirement(line: str) -> str:
    hashes = [found["hash"] for found in _HASH.finditer(line)]
    for value in hashes:
        if not _GOOD_HASH.fullmatch(value):
            raise _refusal(line, f"{value[:_SHOWN]!r} is no SHA-256, SHA-384 or SHA-512 hash")
    try:
        parsed = Requirement(_HASH.sub("", line))
    except (InvalidRequirement, RecursionError):
        raise _refusal(line, "it isn't a package's name with versions, such as scikit-learn==1.9.1") from None
    if parsed.url is not None:
        raise _refusal(line, "packages come from the engine's package index, not from URLs or repositories")
    if any(specifier.operator == "===" for specifier in parsed.specifier):
        raise _refusal(line, "it compares with ===; use ==")
    parsed.name = canonicalize_name(parsed.name)
    return " ".join([str(parsed), *(f"--hash={value}" for value in sorted(set(hashes)))])


def _refusal(line: str, why: str) -> EnvironmentFailure:
    return EnvironmentFailure(f"its requirement {mask(line)[:_SHOWN]!r} is refused: {why}")
