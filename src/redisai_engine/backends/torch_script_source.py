"""
Limits on a script's source: bytes, lines and nesting, checked before PyTorch's compiler sees it. This module compiles
nothing.

Theory of operation. PyTorch's compiler recurses for every level of the syntax tree. A tree of a few thousand levels
crashes the process, and nested brackets take seconds long before that. Brackets, chains of operators (`1 + 1 + ...`),
unary operators, calls, types, blocks and `elif` all add levels. So an upper bound of the depth is computed from the
text: every operator and every bracket may be one level above its deepest operand, every block is one level, and every
`elif` in the script is one more. The elements of a list are siblings, so a table of numbers may have any length.
Strings, comments (except `# type:`), lines and indentation are recognized as PyTorch's lexer does.

Invariant: the depth computed here is never less than that of PyTorch's tree.
"""

from __future__ import annotations

import re

from redisai_engine.errors import ModelLoadError
from redisai_engine.protocol import texts

#: Bytes of UTF-8. Compiling takes up to 40 microseconds for each (measured with PyTorch 2.13), and holds the
#: interpreter's lock for most of that time, so all other clients wait.
MAX_SOURCE = 64 * 1024

#: Lines, with those of comments and tables. One of five operators takes 0.25 milliseconds.
MAX_LINES = 1000

#: Levels. Nested lists cost the most: 1,000 levels take 0.3 seconds, 3,000 crash the process (8 MiB of stack).
MAX_DEPTH = 500

_TOKEN = re.compile(
    r"""
    (?P<string>  \"\"\".*?\"\"\" | '''.*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<unended> ["'] )
  | (?P<comment> \# (?!\ type:) [^\n]* )
  | (?P<newline> \n [ \t]* )
  | (?P<open>    [(\[{] )
  | (?P<close>   [)\]}] )
  | (?P<comma>   , )
  | (?P<word>    \w+ )
  | (?P<space>   (?: [ \t\r\f] | \\\n )+ )
  | (?P<operator> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = frozenset(("and", "or", "not", "in", "is", "if", "else", "lambda"))


def check_source(source: str) -> None:
    """Raise ModelLoadError for a script that is too long or too deep."""
    size = len(source.encode("utf-8", "surrogateescape"))
    if size > MAX_SOURCE:
        raise ModelLoadError(texts.SCRIPT_TOO_LARGE % (size, MAX_SOURCE))
    line = _first_too_deep(source)
    if line:
        raise ModelLoadError(texts.SCRIPT_TOO_DEEP % (MAX_DEPTH, line))
    lines = source.count("\n") + (not source.endswith("\n"))
    if lines > MAX_LINES:
        raise ModelLoadError(texts.SCRIPT_TOO_LONG % (lines, MAX_LINES))


def _first_too_deep(source: str) -> int:
    """
    Return the number of the first line that is nested too deep, or 0 if there is none.

    Raise ModelLoadError for a text in quotes without an end, which PyTorch would refuse too.
    """
    depth = _Depth()
    for token in _TOKEN.finditer(source):
        if token.lastgroup == "unended":  # looking for the end of each such text would take the square of the length
            raise ModelLoadError(texts.SCRIPT_UNENDED % _line(source, token))
        depth.take(str(token.lastgroup), token[0])
        if depth.levels > MAX_DEPTH:
            return _line(source, token)
    return 0


def _line(source: str, token: re.Match[str]) -> int:
    return source.count("\n", 0, token.start()) + 1


class _Expression:
    """An expression, or one of the comma-separated elements in a bracket, as far as it has been read."""

    __slots__ = ("deepest", "operand", "operators")

    def __init__(self) -> None:
        self.operators = 0  # each may be a level above its operands
        self.operand = 0  # levels of the deepest bracket in the expression
        self.deepest = 0  # levels of the deepest element before the last comma

    @property
    def levels(self) -> int:
        return self.operators + self.operand

    def next_element(self) -> None:
        self.deepest = max(self.deepest, self.levels)
        self.operators = self.operand = 0


class _Depth:
    """An upper bound of the syntax tree's depth at the point up to which the text has been read."""

    def __init__(self) -> None:
        self._open: list[_Expression] = []  # the expressions whose brackets are open, outermost first
        self._above = 0  # levels that they add
        self._present = _Expression()
        self._blocks = [0]  # the indentations of the enclosing blocks
        self._elifs = 0  # of the whole script, because a chain of any length nests that deep
        self._indentation: int | None = None  # of a line whose first word hasn't been read yet

    @property
    def levels(self) -> int:
        return len(self._blocks) + self._elifs + self._above + self._present.levels

    def take(self, kind: str, text: str) -> None:
        if kind in ("comment", "space"):
            return
        if kind == "newline":
            if not self._open:  # inside brackets, line breaks and indentation mean nothing
                self._indentation = len(text) - 1
            return
        if self._indentation is not None:
            self._begin_line(self._indentation)
        if kind == "open":
            self._open_bracket()
        elif kind == "close":
            self._close_bracket()
        elif kind == "comma":
            self._present.next_element()
        elif kind == "operator" or text in _OPERATORS:
            self._present.operators += 1
        elif text == "elif":
            self._elifs += 1

    def _open_bracket(self) -> None:
        self._present.operators += 1  # the bracket may be a call or a subscript of what precedes it
        self._above += self._present.operators
        self._open.append(self._present)
        self._present = _Expression()

    def _close_bracket(self) -> None:
        if self._open:
            inner, self._present = self._present, self._open.pop()
            inner.next_element()
            self._above -= self._present.operators
            self._present.operand = max(self._present.operand, inner.deepest)

    def _begin_line(self, indentation: int) -> None:
        while self._blocks[-1] > indentation:
            self._blocks.pop()
        if self._blocks[-1] < indentation:
            self._blocks.append(indentation)
        self._indentation = None
        self._present = _Expression()
