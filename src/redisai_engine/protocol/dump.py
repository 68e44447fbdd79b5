"""
Decoding of DUMP payloads from a real RedisAI: tensors, models and scripts of a server that is being migrated.

Theory of operation. A payload consists of the value's type, the value, and a ten-byte footer (version and checksum). A
module's value starts with the module type, a number that packs nine letters of six bits and the encoding version of ten
bits. Items follow, each after an opcode, up to an end opcode. Which items there are, and in which order, is RedisAI's
choice and depends on the encoding version:

    0  as in RedisAI 1.0
    1  a model's blob in chunks; tags without a terminating zero byte
    2  a model's minbatchtimeout
    3  a script's entry points
    4  a tensor without device, lanes, strides and offset; STRING and BOOL tensors

The checksum is not verified here. A payload arrives only after Redis has checked it and has then refused it because it
doesn't know the module type.

Invariant: no payload, however damaged, raises anything but DumpError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redisai_engine.protocol import dtypes, lzf
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import MAX_DIMENSIONS, Tensor, element_count, holds_texts, is_shape

NEWEST_ENCODING = 4
MAX_EXPANDED_BYTES = 2**32  # of a payload's compressed strings together: a few bytes of LZF can stand for many

_MODULE_VALUE = b"\x07\x81"  # Redis' RDB_TYPE_MODULE_2, and the mark of an eight-byte number: the module type
_FOOTER_BYTES = 10
_SHORTEST = len(_MODULE_VALUE) + 8 + _FOOTER_BYTES
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_OPCODE_EOF = 0
_OPCODES_INTEGER = (1, 2)  # signed, unsigned; Redis writes both as unsigned
_OPCODE_STRING = 5

# RedisAI's numbers for backends, and DLPack's codes for types: kind of number, bits.
_BACKENDS = ("TF", "TFLITE", "TORCH", "ONNX")
_DTYPES: dict[tuple[int, int], DType] = {
    (0, 8): dtypes.INT8,
    (0, 16): dtypes.INT16,
    (0, 32): dtypes.INT32,
    (0, 64): dtypes.INT64,
    (1, 8): dtypes.UINT8,
    (1, 16): dtypes.UINT16,
    (2, 32): dtypes.FLOAT,
    (2, 64): dtypes.DOUBLE,
    (6, 8): dtypes.BOOL,
    (7, 8): dtypes.STRING,
}


class DumpError(ValueError):
    """The payload is RedisAI's but can't be decoded."""


@dataclass(frozen=True, slots=True)
class DumpedModel:
    """A model as AI.MODELSTORE received it. Texts have surrogates for bytes that aren't UTF-8."""

    backend: str
    device: str
    tag: str
    batch_size: int
    min_batch_size: int
    min_batch_timeout_ms: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blob: bytes


@dataclass(frozen=True, slots=True)
class DumpedScript:
    """A script as AI.SCRIPTSTORE received it. A script stored by AI.SCRIPTSET has no entry points."""

    device: str
    tag: str
    source: str
    entry_points: tuple[str, ...]


Dumped = Tensor | DumpedModel | DumpedScript


def is_dump(payload: bytes) -> bool:
    """Return whether this looks like a module's value. Whether it is RedisAI's, only `decode_dump` finds out."""
    return payload[:2] == _MODULE_VALUE and len(payload) >= _SHORTEST


def decode_dump(payload: bytes, most: int = MAX_EXPANDED_BYTES) -> Dumped | None:
    """
    Decode a payload of DUMP. Return None if it isn't RedisAI's.

    Its compressed strings may expand to `most` bytes altogether.

    Raise DumpError for a payload that RedisAI itself couldn't restore, or a tensor of too many dimensions.
    Decompressing 100 MB takes seconds, so call it in a thread.
    """
    if not is_dump(payload):
        return None
    items = _Items(payload, most)
    name, encoding = _module_type(items.length())
    decode = _decoders().get(name)
    if decode is None:
        return None
    if encoding > NEWEST_ENCODING:
        raise DumpError(f"a payload of {name} has encoding version {encoding}; 0 to {NEWEST_ENCODING} are supported")
    try:
        value = decode(items, encoding)
        items.end()
    except (IndexError, lzf.LzfError) as error:
        raise DumpError(f"a payload of {name} is truncated or damaged: {error}") from None
    return value


def _decoders() -> dict[str, Callable[[_Items, int], Dumped]]:
    return {"AI_TENSOR": _tensor, "AI__MODEL": _model, "AI_SCRIPT": _script}


def _module_type(number: int) -> tuple[str, int]:
    """Return the module type's name and its encoding version."""
    letters = number >> 10
    name = "".join(_LETTERS[letters >> 6 * place & 63] for place in reversed(range(9)))
    return name, number & 1023


# -- RedisAI's part: the order of the items -------------------------------------------------------


def _tensor(items: _Items, encoding: int) -> Tensor:
    if encoding < 4:
        _device_type, _device_id, bits, code, _lanes = (items.integer() for _ in range(5))
    else:
        code, bits = items.integer(), items.integer()
    dtype = _DTYPES.get((code, bits))
    if dtype is None:
        raise DumpError(f"a tensor has elements of DLPack type {code} with {bits} bits, which RedisAI does not have")
    dimensions = items.integer()
    if dimensions > MAX_DIMENSIONS:
        raise DumpError(f"a tensor has {dimensions} dimensions; at most {MAX_DIMENSIONS} are supported")
    shape = tuple([items.integer() for _ in range(dimensions)])
    if not is_shape(shape):
        raise DumpError(f"a tensor has the shape {shape}, which is larger than any tensor")
    if encoding < 4:
        for _ in range(len(shape) + 1):  # strides, which are those of a dense tensor, and the offset, which is zero
            items.integer()
    blob = items.string()
    if dtype.is_string:
        for _ in range(element_count(shape)):  # the elements' offsets, which follow from their terminating zero bytes
            items.integer()
    _check_size(dtype, shape, blob)
    return Tensor(dtype, shape, blob)


def _check_size(dtype: DType, shape: tuple[int, ...], blob: bytes) -> None:
    count = element_count(shape)
    if len(blob) != count * dtype.size if dtype.size else not holds_texts(blob, count):
        raise DumpError(f"a {dtype.name} tensor of shape {shape} has {len(blob)} bytes")


def _model(items: _Items, encoding: int) -> DumpedModel:
    number = items.integer()
    if number >= len(_BACKENDS):
        raise DumpError(f"a model has backend number {number}; 0 to {len(_BACKENDS) - 1} are known")
    # Arguments are evaluated in order, which is the order of the items.
    return DumpedModel(
        backend=_BACKENDS[number],
        device=items.text(),
        tag=_tag(items, encoding),
        batch_size=items.integer(),
        min_batch_size=items.integer(),
        min_batch_timeout_ms=items.integer() if encoding >= 2 else 0,
        inputs=tuple(items.texts()),
        outputs=tuple(items.texts()),
        blob=_blob(items) if encoding >= 1 else items.string(),
    )


def _blob(items: _Items) -> bytes:
    size = items.integer()
    blob = b"".join([items.string() for _ in range(items.integer())])
    if len(blob) != size:
        raise DumpError(f"a model declares a blob of {size} bytes but has {len(blob)}")
    return blob


def _script(items: _Items, encoding: int) -> DumpedScript:
    return DumpedScript(
        device=items.text(),
        tag=_tag(items, encoding),
        source=items.text(),
        entry_points=tuple(items.texts()) if encoding >= 3 else (),
    )


def _tag(items: _Items, encoding: int) -> str:
    tag = items.string()
    return _text(tag[:-1] if encoding == 0 else tag)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


# -- Redis' part: the encoding of the items -------------------------------------------------------


class _Items:
    """The items of a module's value, read one after another. Damage raises IndexError."""

    def __init__(self, payload: bytes, most: int) -> None:
        self._data = payload
        self._position = 1  # after the value's type; the module type comes first
        self._expanded = 0  # bytes of all its strings that are compressed
        self._most = most
        self._limit = len(payload) - _FOOTER_BYTES

    def integer(self) -> int:
        self._expect(_OPCODES_INTEGER)
        return self.length()

    def string(self) -> bytes:
        self._expect((_OPCODE_STRING,))
        first = self._data[self._position]
        if first >> 6 != 3:
            return self._take(self.length())
        # The upper two bits are set: no length, but a special encoding.
        self._position += 1
        if first == 0xC3:
            compressed, length = self.length(), self.length()
            self._expanded += length
            if self._expanded > self._most:
                raise DumpError(
                    f"a payload expands to {self._expanded} bytes or more; at most {self._most} are allowed"
                )
            return lzf.decompress(self._take(compressed), length)
        if first > 0xC3:
            raise IndexError(f"a string starts with byte {first}")
        number = self._take(1 << (first & 3))  # Redis stores a short string of digits as a number of 1, 2 or 4 bytes
        return b"%d" % int.from_bytes(number, "little", signed=True)

    def text(self) -> str:
        """Read a string that was written with its terminating zero byte."""
        return _text(self.string().partition(b"\0")[0])

    def texts(self) -> Iterator[str]:
        """Read a count and that many texts."""
        return (self.text() for _ in range(self.integer()))

    def end(self) -> None:
        self._expect((_OPCODE_EOF,))
        if self._position != self._limit:
            raise IndexError("bytes follow its end")

    def length(self) -> int:
        """Read a number in Redis' variable-width encoding, whose first two bits select the width."""
        first = self._take(1)[0]
        # 00: six bits in this byte; 01: fourteen bits, big-endian; 10: four or eight bytes follow, big-endian.
        if first >> 6 == 0:
            return first
        if first >> 6 == 1:
            return (first & 63) << 8 | self._take(1)[0]
        if first == 0x80:
            return int.from_bytes(self._take(4), "big")
        if first == 0x81:
            return int.from_bytes(self._take(8), "big")
        raise IndexError(f"a length starts with byte {first}")

    def _expect(self, opcodes: tuple[int, ...]) -> None:
        opcode = self.length()
        if opcode not in opcodes:
            raise IndexError(f"opcode {opcode} instead of {opcodes[-1]}")

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > self._limit:
            raise IndexError(f"{count} bytes expected at offset {self._position} of {self._limit}")
        taken = self._data[self._position : end]
        self._position = end
        return taken
