"""Payloads as RedisAI's DUMP produces them, written here with a checksum that Redis accepts."""

from __future__ import annotations

from math import prod

RDB_VERSION = 9  # Redis 5's, which every later Redis reads
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_JONES = 0x95AC9329AC4BC9B5  # Redis' CRC-64 polynomial, bits reversed
_FLOAT = (2, 32)  # kind of number and bits
_TEXT = (7, 8)
_BACKENDS = ("TF", "TFLITE", "TORCH", "ONNX")


def module_payload(name: str, encoding: int, *items: int | bytes) -> bytes:
    """Return a module's value: its type's name and encoding version, then integers and strings."""
    number = 0
    for letter in name:
        number = number << 6 | _LETTERS.index(letter)
    framed = [b"\x02" + length(i) if isinstance(i, int) else b"\x05" + length(len(i)) + i for i in items]
    return sealed(b"\x07" + length(number << 10 | encoding) + b"".join(framed) + b"\x00")


def sealed(value: bytes) -> bytes:
    """Append the version and the checksum."""
    body = value + RDB_VERSION.to_bytes(2, "little")
    return body + _crc64(body).to_bytes(8, "little")


def float_tensor(shape: tuple[int, ...], blob: bytes) -> bytes:
    return module_payload("AI_TENSOR", 4, *_FLOAT, len(shape), *shape, blob)


def string_tensor(shape: tuple[int, ...], blob: bytes) -> bytes:
    """Return a tensor of texts, with an offset of zero for each."""
    return module_payload("AI_TENSOR", 4, *_TEXT, len(shape), *shape, blob, *[0] * prod(shape))


def model(
    backend: str, blob: bytes, *, tag: str = "", inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()
) -> bytes:
    """Return a model on the CPU with BATCHSIZE 4 and MINBATCHSIZE 2."""
    names = [item for some in (inputs, outputs) for item in (len(some), *(name.encode() + b"\0" for name in some))]
    number = _BACKENDS.index(backend)
    return module_payload("AI__MODEL", 4, number, b"CPU\0", tag.encode(), 4, 2, 0, *names, len(blob), 1, blob)


def script(source: str, *entry_points: str) -> bytes:
    names = [len(entry_points), *(name.encode() + b"\0" for name in entry_points)]
    return module_payload("AI_SCRIPT", 4, b"CPU\0", b"", source.encode() + b"\0", *names)


def length(number: int) -> bytes:
    """Return a number as RDB writes lengths."""
    if number < 64:
        return bytes([number])
    if number < 16384:
        return bytes([64 | number >> 8, number & 255])
    return b"\x81" + number.to_bytes(8, "big") if number > 0xFFFFFFFF else b"\x80" + number.to_bytes(4, "big")


def _crc64(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_JONES if crc & 1 else 0)
    return crc
