"""
Requests and replies of the two protocols, as bytes, for the load generator. Does no I/O.

A measured exchange always sends the same request, so its replies all have the same length. The parsers below are used
once, on the first reply, to learn that length. They are not part of what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Measure = Callable[[bytes], int | None]  # the length of the first complete reply in the bytes, None if it is incomplete


@dataclass(frozen=True)
class Exchange:
    """One request, how to find the end of its reply, and which bytes of the reply are the answer."""

    request: bytes
    measure: Measure
    answer: Callable[[bytes], bytes]  # raises ValueError if the reply is an error


def redis_exchange(arguments: Sequence[Any]) -> Exchange:
    """Return the exchange of a Redis command, as an array of bulk strings."""
    parts = [argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments]
    request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    return Exchange(request, resp_length, resp_answer)


def resp_length(data: bytes) -> int | None:
    end = _resp_end(data, 0)
    return None if end is None else end


def _resp_end(data: bytes, start: int) -> int | None:
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    after = line_end + 2
    kind = data[start : start + 1]
    if kind == b"$":
        length = int(data[start + 1 : line_end])
        after += length + 2 if length >= 0 else 0
        return after if after <= len(data) else None
    if kind == b"*":
        for _ in range(int(data[start + 1 : line_end])):
            end = _resp_end(data, after)
            if end is None:
                return None
            after = end
    return after


def resp_answer(reply: bytes) -> bytes:
    # An error inside an array starts a line, too. No tensor here contains such a line.
    if reply.startswith(b"-") or b"\r\n-" in reply:
        raise ValueError(f"the server answered {reply[:200]!r}")
    return reply


def http_exchange(path: str, body: object) -> Exchange:
    """Return the exchange of a JSON POST over a kept-alive connection."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    return Exchange(request, http_length, http_answer)


def octets_exchange(path: str, head: bytes, tensors: bytes) -> Exchange:
    """Return the exchange of a POST whose body is JSON followed by bytes, as Open Inference V2 has it."""
    about = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + len(tensors)}\r\n\r\n"
    request = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{about}".encode() + head + tensors
    return Exchange(request, http_length, http_answer)


def http_length(data: bytes) -> int | None:
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    for line in data[:head_end].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            end = head_end + 4 + int(value)
            return end if end <= len(data) else None
        if name.lower() == b"transfer-encoding" and value.strip().lower() == b"chunked":
            chunks = _chunks(data, head_end + 4)
            return None if chunks is None else chunks[1]
    raise ValueError(f"a reply without a length: {data[:head_end]!r}")


def _chunks(data: bytes, start: int) -> tuple[bytes, int] | None:
    """Return a chunked body and where it ends, or None if it is incomplete. Trailers are not supported."""
    body = b""
    while (line_end := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:line_end], 16)
        end = line_end + 2 + size + 2
        if end > len(data):
            return None
        if not size:
            return body, end
        body += data[line_end + 2 : end - 2]
        start = end
    return None


def http_answer(reply: bytes) -> bytes:
    # The headers contain the date, so only the body is the same in all replies.
    if not reply.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"the server answered {reply[:400]!r}")
    head, _, body = reply.partition(b"\r\n\r\n")
    chunks = _chunks(body, 0) if b"transfer-encoding: chunked" in head.lower() else None
    return body if chunks is None else chunks[0]
