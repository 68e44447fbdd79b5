"""
The parser that turns a client's bytes into requests. It does no I/O.

Theory of operation. A request is a list of arguments. There are three ways to extract it from the bytes, tried in this
order:

* By layout. Once two requests in a row had arguments of the same lengths, the next ones are expected to have the same
  lengths again (see layouts.py).
* By splitting. At the start of a request, a small buffer is cut at all its line breaks at once (`bytes.split`). In
  `*2 / $3 / GET / $1 / k` every other piece is a header, and the request is well formed exactly if each header states
  the length of the piece after it. So a request costs two slices and one comparison of lists, all in C. A line break
  inside an argument, or any form that is unusual but allowed, makes the comparison fail.
* Step by step, as Redis does it. This handles what the others refused, requests that arrive in parts, large arguments
  and inline requests. Progress is kept between calls: no byte of an argument is examined twice, and an argument that is
  still arriving takes no more memory than the bytes received so far. Many small arguments are split off together.

Which requests are malformed, and which text they get, follows Redis 7's networking.c. Requests before the malformed one
are handed out first. So do the limits before a client has logged in, but only requests that are read step by step are
measured: the others lie in a buffer of `MAX_SPLIT_BYTES` at most, so they are small anyway.

Invariant: the bytes of a request that was handed out are never read again. Either `_pieces` is in use (splitting) and
`_index` is the piece at which the next request starts, or `_pieces` is empty and `_position` is the offset in `_buffer`
at which reading goes on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from io import BytesIO
from typing import Final

from redisai_engine.protocol.errors import ProtocolError, TooLargeBeforeLogin
from redisai_engine.protocol.inline import split_line
from redisai_engine.protocol.layouts import Layout, Template, layout_of

Request = list[bytes]

MAX_BULK_BYTES = 512 * 1024 * 1024  # Redis' proto-max-bulk-len
MAX_LINE_BYTES = 64 * 1024  # Redis' PROTO_INLINE_MAX_SIZE
MAX_ARGUMENTS = 2**31 - 1
MAX_ARGUMENTS_BEFORE_LOGIN = 10
MAX_BULK_BYTES_BEFORE_LOGIN = 16 * 1024
ARGUMENT_BYTES = 64  # what an argument takes besides its content: an object and a place in a list

# A larger buffer is not split: its arguments are large, and searching them for line breaks costs more than it saves.
# See docs/decisions/0001-request-parser.md.
MAX_SPLIT_BYTES: Final = 64 * 1024

# Of a request with more, arguments are split off as from a small buffer. A client that hasn't logged in can't send it.
MANY_ARGUMENTS = 64

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,17}")  # as strict as Redis: no plus sign, no leading zero


_SHORT: Final = 1024  # bytes


class _Headers(dict[int, bytes]):
    """The header of an argument by its length. Those of short arguments are kept, once they have been built."""

    def __missing__(self, length: int) -> bytes:
        header = b"$%d" % length
        if length < _SHORT:
            self[length] = header
        return header


_header = _Headers().__getitem__
_ARGUMENT_COUNTS = {b"*%d" % count: count for count in range(1, 1024)}


class Limits:
    """
    The largest request that one client may send: that of a client that has not logged in, until it is widened.

    `request_bytes` limits a whole request, arguments and what it takes to hold them.
    """

    __slots__ = ("argument_bytes", "arguments", "request_bytes")

    def __init__(self, request_bytes: int) -> None:
        self.request_bytes = request_bytes
        self.narrow()

    def narrow(self) -> None:
        """Return to the limits of a client that has not logged in."""
        self.arguments, self.argument_bytes = MAX_ARGUMENTS_BEFORE_LOGIN, MAX_BULK_BYTES_BEFORE_LOGIN

    def widen(self) -> None:
        """Take what Redis takes of a client that has logged in, or that needs no login."""
        self.arguments, self.argument_bytes = MAX_ARGUMENTS, MAX_BULK_BYTES

    @classmethod
    def wide(cls) -> Limits:
        limits = cls(2**62)
        limits.widen()
        return limits


class RequestParser:
    """
    A parser of one client's requests: `feed` takes bytes, `next` returns requests.

    `raw` is the request that `next` returned last, in a form that can be relayed to Redis. It is valid until `next` or
    `feed` is called again.
    """

    __slots__ = (
        "_arguments",
        "_arriving",
        "_buffer",
        "_error",
        "_first",
        "_header_at",
        "_headers",
        "_index",
        "_layout",
        "_limits",
        "_max_bulk_bytes",
        "_missing",
        "_outstanding",
        "_pieces",
        "_position",
        "_size",
        "_start",
        "_unsplittable",
    )

    def __init__(self, limits: Limits | None = None, *, max_bulk_bytes: int = MAX_BULK_BYTES) -> None:
        self._limits = limits or Limits.wide()
        self._max_bulk_bytes = max_bulk_bytes
        self._buffer = b""
        self._position = 0
        self._start = -1  # offset of the request handed out last; -1: the buffer doesn't hold its bytes verbatim
        self._layout: Layout | None = None  # the layout expected of the next request
        self._headers: list[bytes] = []  # of the request handed out last; a repetition sets the layout
        self._pieces: list[bytes] = []  # the buffer, cut at its line breaks; empty: not splitting
        self._first = 0  # the piece at which the request handed out last started
        self._index = 0  # the piece at which the next request starts
        self._unsplittable = False  # splitting failed in this buffer, or it is too large; don't try again
        self._arguments: Request = []  # of the request being read, or of the one handed out last
        self._outstanding = 0  # arguments that this request still lacks
        self._size = 0  # bytes that the arguments so far take, if it is read step by step
        self._header_at = 0  # offset of the header read last, where reading goes on if it asked for too much
        self._arriving: BytesIO | None = None  # what has come of an incomplete argument ...
        self._missing = 0  # ... and how many of its bytes are still to come, its line break included
        self._error: ProtocolError | None = None  # sticky: what follows malformed bytes can't be understood

    @property
    def has_more(self) -> bool:
        """Whether there are bytes behind the request handed out last."""
        if self._pieces:
            return self._index < len(self._pieces) - 1
        return self._position < len(self._buffer)

    @property
    def begun(self) -> Request:
        """The arguments so far of the request that is still arriving, unless the client hasn't logged in."""
        is_known = self._limits.arguments > MAX_ARGUMENTS_BEFORE_LOGIN
        return self._arguments if self._outstanding and is_known else []

    def feed(self, data: bytes) -> None:
        """Add bytes received from the client."""
        if self._arriving is not None and self._missing:
            self._continue_argument(self._arriving, data)
            return
        self._stop_splitting()
        if self._position < len(self._buffer):
            data = self._buffer[self._position :] + data
        self._start_buffer(data, 0)

    def next(self) -> Request | None:
        """
        Return the next request, or None if more bytes are needed.

        Raise ProtocolError, now and in every later call, if the bytes are not a request. After TooLargeBeforeLogin a
        later call reads on if the limits were widened in the meantime.
        """
        pieces = self._pieces
        if not pieces:
            if self._outstanding:
                return self._next_by_steps()
            start = self._position
            if start == len(self._buffer):
                return None
            if self._layout is not None and (request := self._next_by_layout(self._layout, start)) is not None:
                return request
            if self._unsplittable:
                return self._next_by_steps()
            pieces = self._split()
        first = self._index
        count = _ARGUMENT_COUNTS.get(pieces[first])
        if count is not None:
            end = first + 1 + 2 * count
            headers = pieces[first + 1 : end : 2]
            arguments = pieces[first + 2 : end : 2]
            # No line break follows the last piece yet: it is the start of an incomplete line, or empty. It must not be
            # part of this request.
            if end < len(pieces) and headers == list(map(_header, map(len, arguments))):
                self._first = first
                self._index = end
                # Equal headers twice in a row: a third request of this form is likely, and worth a layout.
                if headers == self._headers and self._layout is None:
                    self._layout = layout_of(arguments)
                self._headers = headers
                return arguments
        self._stop_splitting()
        return self._next_by_steps()

    def forget(self) -> None:
        """Let go of the bytes of requests that were handed out."""
        if not self._outstanding:
            self._arguments = []
        if not self._pieces and self._position == len(self._buffer):
            self._start_buffer(b"", 0)
            self._start = -1

    def take(self, template: Template) -> list[bytes] | None:
        """
        Return the next request's arguments at the template's places.

        Return None, and take nothing, if the request doesn't match the template or more bytes are needed.
        """
        start = self._position
        if start == len(self._buffer) or self._pieces or self._outstanding:
            return None
        found = template.read(self._buffer, start)
        if found is not None:
            self._start = start
            self._position = start + template.size
        return found

    def extend(self, names: AbstractSet[bytes], apart_from: AbstractSet[bytes], most: int) -> int:
        """
        Take up to `most` further requests as long as they start with one of `names` and have none of `apart_from`.

        Return how many were taken. `raw` then covers them together with the request that `next` returned. This is for
        runs of requests that are only relayed.
        """
        if self._pieces:
            return self._extend_pieces(names, apart_from, most)
        layout = self._layout
        if self._start < 0 or layout is None:
            return 0
        count = 0
        while count < most and (end := self._position + layout.size) <= len(self._buffer):
            request = layout.read(self._buffer, self._position)
            if request is None or request[0] not in names or not apart_from.isdisjoint(request):
                break
            self._position = end
            count += 1
        return count

    def _extend_pieces(self, names: AbstractSet[bytes], apart_from: AbstractSet[bytes], most: int) -> int:
        pieces = self._pieces
        index = self._index
        taken = 0
        while taken < most and (count := _ARGUMENT_COUNTS.get(pieces[index])) is not None:
            end = index + 1 + 2 * count
            if end >= len(pieces) or pieces[index + 2] not in names:
                break
            arguments = pieces[index + 2 : end : 2]
            whole = pieces[index + 1 : end : 2] == list(map(_header, map(len, arguments)))
            if not whole or not apart_from.isdisjoint(arguments):
                break
            index = end
            taken += 1
        self._index = index
        return taken

    @property
    def is_long(self) -> bool:
        """Whether many arguments of a request have yet to be read."""
        return self._outstanding > MANY_ARGUMENTS

    @property
    def raw(self) -> bytes:
        """The bytes of the request handed out last. One read step by step is encoded again in the usual form."""
        pieces = self._pieces
        if pieces:
            if not self._first and self._index == len(pieces) - 1 and not pieces[-1]:
                return self._buffer  # it holds exactly this request, so nothing need be copied
            return b"%b\r\n" % b"\r\n".join(pieces[self._first : self._index])
        if self._start >= 0:
            return self._buffer[self._start : self._position]
        return encode(self._arguments)

    def _next_by_layout(self, layout: Layout, start: int) -> Request | None:
        end = start + layout.size
        if end > len(self._buffer):
            return None
        request = layout.read(self._buffer, start)
        if request is None:
            self._layout = None  # the client sends something else now: find its layout first
            return None
        self._start = start
        self._position = end
        return request

    def _start_buffer(self, data: bytes, position: int) -> None:
        self._buffer = data
        self._position = position
        self._unsplittable = len(data) - position > MAX_SPLIT_BYTES

    def _split(self) -> list[bytes]:
        if self._position:
            self._buffer = self._buffer[self._position :]
            self._position = 0
        self._index = 0
        self._pieces = self._buffer.split(b"\r\n")
        return self._pieces

    def _stop_splitting(self) -> None:
        """Turn the index among the pieces back into an offset in the buffer, which is not split again."""
        if self._pieces:
            # The pieces had been separated by line breaks of two bytes.
            left = self._pieces[self._index :]
            self._position = len(self._buffer) - sum(map(len, left)) - 2 * (len(left) - 1)
            self._pieces = []
            self._unsplittable = True

    def _next_by_steps(self) -> Request | None:
        self._start = -1
        if self._error is not None:
            raise self._error
        try:
            return self._read_request()
        except TooLargeBeforeLogin:
            self._position = self._header_at
            raise
        except ProtocolError as error:
            self._error = error
            self._outstanding = 1  # makes every further call of `next` come here
            raise

    def _read_request(self) -> Request | None:
        while not self._outstanding:
            if self._position >= len(self._buffer):
                return None
            if self._buffer[self._position] == ord("*"):
                if not self._read_count():
                    return None
            else:
                end = self._find(b"\n", "too big inline request")
                if end < 0:
                    return None
                words = split_line(self._buffer[self._position : end])
                self._position = end + 1
                if words:  # Redis ignores empty lines
                    self._arguments = words
                    return words
        return self._arguments if self._read_arguments() else None

    def _read_count(self) -> bool:
        """Read `*3`. Return False if it is incomplete. A count below one is an empty request, which is skipped."""
        line = self._read_header("too big mbulk count string")
        if line is None:
            return False
        count = _integer(line[1:])
        if count is None or count > MAX_ARGUMENTS:
            raise ProtocolError("Protocol error: invalid multibulk length")
        if count > self._limits.arguments:
            raise TooLargeBeforeLogin("Protocol error: unauthenticated multibulk length")
        if count > 0:
            self._arguments = []
            self._size = 0
            self._outstanding = count
        return True

    def _read_arguments(self) -> bool:
        """Read the arguments that the request still lacks. Return False if they are incomplete."""
        if self.is_long and self._arriving is None:
            self._read_many()
        while self._outstanding:
            argument = self._read_argument() if self._arriving is None else self._take_arrived(self._arriving)
            if argument is None:
                return False
            self._arguments.append(argument)
            self._outstanding -= 1
        return True

    def _read_many(self) -> None:
        """Read small arguments of a long request by splitting, as many as are complete and well formed."""
        while self._outstanding and self._position < len(self._buffer):
            # The last piece may be incomplete, and a header without its argument stays where it is.
            pieces = self._buffer[self._position : self._position + MAX_SPLIT_BYTES].split(b"\r\n")
            count = min((len(pieces) - 1) // 2, self._outstanding)
            headers, arguments = pieces[0 : 2 * count : 2], pieces[1 : 2 * count : 2]
            lengths = list(map(len, arguments))
            if not count or headers != list(map(_header, lengths)):
                return
            size = self._size + sum(lengths) + count * ARGUMENT_BYTES
            if size > self._limits.request_bytes or max(lengths) > min(
                self._max_bulk_bytes, self._limits.argument_bytes
            ):
                return  # read step by step, one of them is an error
            self._size = size
            self._position += sum(lengths) + sum(map(len, headers)) + 4 * count
            self._arguments += arguments
            self._outstanding -= count

    def _read_argument(self) -> bytes | None:
        """Read `$3 / GET`. Return None if it is incomplete."""
        line = self._read_header("too big bulk count string")
        if line is None:
            return None
        start = self._position
        end = start + self._argument_length(line)
        self._position = end + 2  # like Redis, skip the line break without checking it
        if self._position <= len(self._buffer):
            return self._buffer[start:end]
        # Keep only this argument's bytes from here on, so that a large one isn't copied with every chunk.
        self._arriving = BytesIO()
        self._arriving.write(self._buffer[start:])
        self._missing = self._position - len(self._buffer)
        self._buffer = b""
        self._position = 0
        return None

    def _continue_argument(self, arriving: BytesIO, data: bytes) -> None:
        taken = self._missing
        self._missing = max(taken - len(data), 0)
        if self._missing:
            arriving.write(data)
        else:
            arriving.write(data[:taken])
            self._start_buffer(data, taken)

    def _take_arrived(self, arriving: BytesIO) -> bytes | None:
        if self._missing:
            return None
        arriving.truncate(arriving.tell() - 2)  # without the line break
        self._arriving = None
        return arriving.getvalue()  # which hands over the memory in which the bytes lie, instead of a copy

    def _argument_length(self, line: bytes) -> int:
        if line[:1] != b"$":
            got = line[:1].decode("utf-8", "surrogateescape") or "\r"
            raise ProtocolError(f"Protocol error: expected '$', got '{got}'")
        length = _integer(line[1:])
        if length is None or not 0 <= length <= self._max_bulk_bytes:
            raise ProtocolError("Protocol error: invalid bulk length")
        if length > self._limits.argument_bytes:
            raise TooLargeBeforeLogin("Protocol error: unauthenticated bulk length")
        self._size += length + ARGUMENT_BYTES
        if self._size > self._limits.request_bytes:
            limit = self._limits.request_bytes
            raise ProtocolError(
                f"Protocol error: the request takes {self._size} bytes; at most {limit} are allowed"
                " (see --request-limit)"
            )
        return length

    def _read_header(self, too_long: str) -> bytes | None:
        """Read a line that ends in \\r and one byte that Redis ignores. Return None if it is incomplete."""
        start = self._header_at = self._position
        end = self._find(b"\r", too_long)
        if end < 0 or end + 2 > len(self._buffer):
            return None
        self._position = end + 2
        return self._buffer[start:end]

    def _find(self, mark: bytes, too_long: str) -> int:
        end = self._buffer.find(mark, self._position)
        # Without the mark there may be a part of it. Redis takes a longer line that arrives in one piece.
        line = end - self._position if end >= 0 else len(self._buffer) - self._position - len(mark) + 1
        if line > MAX_LINE_BYTES:
            raise ProtocolError(f"Protocol error: {too_long}")
        return end


def encode(arguments: Sequence[bytes]) -> bytes:
    """Encode a request in the usual form: an array of bulk strings."""
    pieces = [b"*%d" % len(arguments)]
    for argument in arguments:
        pieces += (_header(len(argument)), argument)
    pieces.append(b"")
    return b"\r\n".join(pieces)


def _integer(text: bytes) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None
