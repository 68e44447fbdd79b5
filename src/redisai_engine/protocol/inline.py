"""
Inline requests: a line of words, as typed into telnet.

This module splits one line into words; finding the end of the line is the request parser's job. The rules are Redis'
own: words are separated by blanks; double quotes understand \\n \\r \\t \\b \\a and \\xHH, single quotes only \\'; a
blank must follow a closing quote.
"""

from __future__ import annotations

import re

from redisai_engine.protocol.errors import ProtocolError

_BLANK = rb"(?=[\s]|\Z)"
_DOUBLE = rb'"(?:[^"\\]|\\.)*"' + _BLANK
_SINGLE = rb"'(?:[^'\\]|\\'|\\(?!'))*'" + _BLANK
_WORD = re.compile(rb"\s*([^ \n\r\t\"']*(?:%b|%b)?)" % (_DOUBLE, _SINGLE), re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_line(line: bytes) -> list[bytes]:
    """Split a line, without its line break, into words. Raise ProtocolError for unbalanced quotes."""
    line = line.partition(b"\0")[0].rstrip()  # Redis reads the line as a C string
    words = []
    position = 0
    while position < len(line):
        match = _WORD.match(line, position)
        # An empty match stands at a quote that opens no valid word.
        if match is None or match.end() == match.start(1):
            raise ProtocolError("Protocol error: unbalanced quotes in request")
        words.append(_unquote(match[1]))
        position = match.end()
        if position < len(line) and not line[position : position + 1].isspace():
            raise ProtocolError("Protocol error: unbalanced quotes in request")
    return words


def _unquote(word: bytes) -> bytes:
    if word.endswith(b'"'):
        plain, quoted = word[:-1].split(b'"', 1)
        return plain + _ESCAPE.sub(_unescape, quoted)
    if word.endswith(b"'"):
        plain, quoted = word[:-1].split(b"'", 1)
        return plain + quoted.replace(b"\\'", b"'")
    return word


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return _NAMED.get(match[2], match[2])
