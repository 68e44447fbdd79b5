"""Text that Redis compressed is restored unchanged."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from redisai_engine.protocol.lzf import LzfError, decompress
from support.servers import Server

_random = random.Random(5)
TEXTS = {
    "a long run": b"a" * 100_000,
    "a repeated word": b"tensor " * 3000,
    "runs in noise": b"".join(_random.randbytes(50) + bytes([i % 7]) * 300 for i in range(100)),
    "words far apart": _random.randbytes(5000) * 2,
    "just long enough": b"abcabcabcabcabcabcabcabc",
}


def compressed_by_redis(server: Server, text: bytes) -> bytes:
    """Return the compressed bytes in a DUMP of a string: they follow the type, the mark of LZF and two lengths."""
    client = server.client()
    client.set("lzf", text)
    dump = client.dump("lzf")
    client.delete("lzf")
    assert dump is not None
    assert dump[:2] == b"\x00\xc3", "Redis did not compress it"
    widths = {0: 1, 1: 2, 2: 5}
    first = 2 + widths[dump[2] >> 6]
    return bytes(dump[first + widths[dump[first] >> 6] : -10])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_redis_compressed_comes_out_as_it_went_in(redis_server: Server, text: bytes):
    assert decompress(compressed_by_redis(redis_server, text), len(text)) == text


def test_plain_pieces_and_repetitions():
    assert decompress(b"\x02abc", 3) == b"abc"
    assert decompress(b"\x02abc\x20\x02", 6) == b"abcabc"  # three bytes from three back
    assert decompress(b"\x00a\xe0\x01\x00", 11) == b"a" * 11  # a piece that repeats itself
    assert decompress(b"", 0) == b""


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"\x02abc", 4),
        (b"\x02abc", 2),
        (b"\x05abc", 3),
        (b"\x02abc\x20", 6),
        (b"\x02abc\xe0\x01", 6),
        (b"\x02abc\x20\x03", 6),  # refers to bytes before the start
        (b"\x20\x00", 3),
        (b"\x02abc\x05", 3),  # bytes that follow its end
        (b"\x02abc\x20\x02", 5),
    ],
)
def test_damaged_bytes_are_an_error(data: bytes, length: int):
    with pytest.raises(LzfError, match=f"don't expand to {length} bytes"):
        decompress(data, length)


@pytest.mark.parametrize("length", [0, 1, 100, 10_000, 2**63])
@pytest.mark.parametrize("piece", [b"\xe0\xff\x00", b"\x1f" + bytes(32)], ids=["repeated", "literal"])
def test_no_more_is_made_than_is_announced(piece: bytes, length: int):
    """Three bytes can stand for 264."""
    data = b"\x00a" + piece * 100_000
    tracemalloc.start()

    with pytest.raises(LzfError):
        decompress(data, length)

    assert tracemalloc.get_traced_memory()[1] < 3 * length + 10_000 or length > len(data) * 88
    tracemalloc.stop()
