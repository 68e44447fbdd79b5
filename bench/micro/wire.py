"""
What the wire layer costs: requests parsed by our parser and by hiredis, and replies split by the frame scanner.

    python bench/micro/wire.py

Prints microseconds for each case, the best of several rounds. docs/decisions/0001-request-parser.md refers to it.
"""

from __future__ import annotations

import platform
import random
import sys
import timeit
from collections.abc import Callable

import hiredis

from redisai_engine.protocol.frames import FrameScanner
from redisai_engine.protocol.requests import RequestParser, encode

PREDICTION = (
    b"AI.DAGEXECUTE_RO ROUTING iris TIMEOUT 1000 |> AI.TENSORSET in FLOAT 1 4 BLOB 0123456789abcdef "
    b"|> AI.MODELEXECUTE iris INPUTS 1 in OUTPUTS"
).split(b" ")
BLOB = random.Random(1).randbytes(600_000)

REQUESTS: dict[str, list[list[bytes]]] = {
    f"prediction, {len(PREDICTION)} arguments": [PREDICTION],
    "GET": [[b"GET", b"key:1"]],
    "pipeline of 16 equal GET": [[b"GET", b"key:1"]] * 16,
    "pipeline of 16 mixed GET and SET": [
        [b"GET", b"key:%d" % i] if i % 2 else [b"SET", b"key:%d" % i, b"x" * i] for i in range(16)
    ],
    "600 KB blob in chunks of 256 KB": [[b"SET", b"key:1", BLOB]],
}
REPLIES = {
    "+OK": b"+OK\r\n",
    "16 times +OK": b"+OK\r\n" * 16,
    "16 short bulks": b"$3\r\nabc\r\n" * 16,
    "array of 100 short bulks": b"*100\r\n" + b"$3\r\nabc\r\n" * 100,
    "600 KB bulk": encode([BLOB])[4:],
}
CHUNK_BYTES = 256 * 1024
ROUNDS = 7


def microseconds(function: Callable[[], object]) -> float:
    timer = timeit.Timer(function)
    number = max(timer.autorange()[0] // 10, 1)
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def parse_with_ours(chunks: list[bytes], *, raw: bool) -> Callable[[], object]:
    parser = RequestParser()

    def run() -> None:
        for chunk in chunks:
            parser.feed(chunk)
            while parser.next() is not None:
                if raw:
                    _ = parser.raw

    return run


def parse_with_hiredis(chunks: list[bytes], *, raw: bool) -> Callable[[], object]:
    """Parse with hiredis. It doesn't keep a request's bytes, so passing one on means encoding it again."""
    reader = hiredis.Reader()

    def run() -> None:
        for chunk in chunks:
            reader.feed(chunk)
            while (request := reader.gets()) is not False:
                if raw:
                    encode(request)

    return run


def main() -> None:
    print(f"Python {platform.python_version()}, hiredis {hiredis.__version__}, {sys.platform}; microseconds")
    print(f"\n{'requests':36} {'ours':>8} {'hiredis':>8}   {'with the bytes to relay:':>8}")
    for name, requests in REQUESTS.items():
        stream = b"".join(map(encode, requests))
        chunks = [stream[at : at + CHUNK_BYTES] for at in range(0, len(stream), CHUNK_BYTES)]
        times = [
            microseconds(way(chunks, raw=raw)) for raw in (False, True) for way in (parse_with_ours, parse_with_hiredis)
        ]
        print(f"{name:36} {times[0]:8.2f} {times[1]:8.2f}   {times[2]:8.2f} {times[3]:8.2f}")
    print("\nreplies divided")
    for name, stream in REPLIES.items():
        scanner = FrameScanner()
        print(f"{name:36} {microseconds(lambda s=scanner, d=stream: s.scan(d)):8.2f}")  # type: ignore[misc]


if __name__ == "__main__":
    main()
