"""
What Redis says about a command before its arguments count.

Theory of operation. Redis looks at a client's login and rights, at its own memory and at its role before it hands a
command to a module. So RedisAI's clients see NOAUTH, NOPERM, OOM, MISCONF, NOREPLICAS or READONLY rather than an error
in the arguments. The engine reads the arguments first. Before it answers with an error of its own, it therefore asks
Redis: with a plain command on the client's own connection that has the flags of the AI command, needs only rights that
the AI command needs, and has no effect. That is a round trip, but only for a command that fails.

Inside MULTI, Redis refuses such a command when it is queued. There the question is queued in the place of a command
whose arguments are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redisai_engine.commands.hashes import HALF_FIELD, NO_FIELD
from redisai_engine.commands.steps import Plan, UpstreamCommand
from redisai_engine.errors import CommandError, EngineError, ModelRunError, UpstreamError
from redisai_engine.protocol.frames import ReplyError

_PING: UpstreamCommand = (b"PING",)
_OWN_ERRORS = ("ERR", "WRONGTYPE")  # the question's own: it has no effect because it is wrong
_ABOUT_KEYS = ("NOPERM", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
_NOT_THE_COMMAND = "to run the"  # in Redis' text if a user may not run the command at all, whatever the key
_SEPARATOR = b"|>"
_SCOPES = {b"LOAD": 2, b"PERSIST": 2, b"ROUTING": 1}  # how far behind it its first key is


def ask_first(request: Sequence[bytes], error: EngineError) -> Plan | None:
    """
    Return a body that asks Redis whether it would have let this request in. It raises Redis' answer, or else `error`.

    Return None if there is nothing to ask: the error is Redis' own, or one of the engine rather than of the request.
    """
    question = _QUESTIONS.get(request[0].upper())
    if question is None or isinstance(error, UpstreamError) or not isinstance(error, CommandError | ModelRunError):
        return None
    return _ask(question, request, error)


def _ask(question: _Question, request: Sequence[bytes], error: EngineError) -> Plan:
    key = question.find_key(request)
    (answer,) = yield [question.about(key or b"")]
    if isinstance(answer, ReplyError) and _is_refusal(answer.text, question, key):
        raise UpstreamError(answer.text)
    raise error


def _is_refusal(text: str, question: _Question, key: bytes | None) -> bool:
    """Return whether Redis would have refused the request, too. Without a key of its own, only the rest counts."""
    kind = text.partition(" ")[0]
    if key is None and kind in _ABOUT_KEYS:
        return question.about is not _ping and _NOT_THE_COMMAND in text
    return kind not in _OWN_ERRORS


def placeholder(request: Sequence[bytes]) -> UpstreamCommand:
    """Return what is queued inside MULTI in the place of a request that needs nothing from Redis."""
    question = _QUESTIONS.get(request[0].upper())
    key = None if question is None else question.find_key(request)
    return _PING if question is None or key is None else question.about(key)


# The questions


@dataclass(frozen=True, slots=True)
class _Question:
    """A command without effect, and where a request names a key that its client must be allowed to write."""

    about: Callable[[bytes], UpstreamCommand]
    find_key: Callable[[Sequence[bytes]], bytes | None]


_QUESTIONS: dict[bytes, _Question] = {}


def enter(name: str, *, flags: Sequence[str], made_of: Sequence[str], first_key: int, movable_keys: bool) -> None:
    """Choose the question for a command of RedisAI. The arguments are columns of its row in the table."""
    if "denyoom" not in flags:
        question = _Question(_delete_nothing, _key_at(first_key)) if "HDEL" in made_of else _Question(_ping, _no_key)
    elif "SETRANGE" in made_of:
        question = _Question(_overwrite_nothing, _key_of_scopes)
    elif movable_keys:
        question = _Question(set_nothing, _key_of_outputs(2 if name.endswith("EXECUTE") else 1))
    else:
        question = _Question(_half_hset if "HSET" in made_of else set_nothing, _key_at(first_key))
    _QUESTIONS[name.encode()] = question


def set_nothing(key: bytes) -> UpstreamCommand:
    """Return a SET that contradicts itself: Redis refuses it last of all, with a syntax error."""
    return b"SET", key, b"", b"NX", b"XX"


def _half_hset(key: bytes) -> UpstreamCommand:
    return (b"HSET", key, *HALF_FIELD)


def _overwrite_nothing(key: bytes) -> UpstreamCommand:
    return b"SETRANGE", key, b"0", b""


def _delete_nothing(key: bytes) -> UpstreamCommand:
    return b"HDEL", key, NO_FIELD


def _ping(key: bytes) -> UpstreamCommand:
    return _PING


def _no_key(request: Sequence[bytes]) -> None:
    return None


def _key_at(position: int) -> Callable[[Sequence[bytes]], bytes | None]:
    return lambda request: request[position] if position < len(request) else None


def _key_of_outputs(distance: int) -> Callable[[Sequence[bytes]], bytes | None]:
    """Find the first output; `distance` is how far it is behind the keyword, with or without a count between them."""

    def find_key(request: Sequence[bytes]) -> bytes | None:
        words = [word.upper() for word in request]
        place = words.index(b"OUTPUTS") + distance if b"OUTPUTS" in words else len(words)
        return request[place] if place < len(request) else None

    return find_key


def _key_of_scopes(request: Sequence[bytes]) -> bytes | None:
    """Find the first key of LOAD, PERSIST or ROUTING."""
    for place, word in enumerate(request[:-1]):
        if word == _SEPARATOR:
            return None
        distance = _SCOPES.get(word.upper())
        if distance is not None:
            return request[place + distance] if place + distance < len(request) else None
    return None
