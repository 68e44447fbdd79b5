"""
AI.TENSORSET and AI.TENSORGET, and the parsing and printing of tensors that DAGs share.

RedisAI checks the key before the arguments; so do the bodies here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from redisai_engine.commands.numbers import double, integer
from redisai_engine.commands.table import READ, WRITE, Context, Keys, Plan, command, refuse_error
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.protocol import dtypes, replies, texts
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import MAX_DIMENSIONS, Tensor, element_count
from redisai_engine.redis import store

_MAX_TENSOR_BYTES = 512 * 1024 * 1024  # Redis' limit for a string; RedisAI crashes on larger shapes
_FORMATS = (b"META", b"BLOB", b"VALUES")
_META_AND_BLOB = frozenset((b"META", b"BLOB"))
_HEADER_BYTES = b"4095"  # the end of the range that holds any header: up to 500 dimensions


@command(
    "AI.TENSORSET",
    arity=(4, None),
    flags=WRITE,
    keys=Keys(1),
    summary="Stores a tensor under a key",
    made_of=("GETRANGE", "SET", "STRLEN"),
)
def tensorset(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.TENSORSET key type [dim ...] [BLOB data | VALUES value ...]"""
    if context.in_transaction:
        return (yield from _set_in_transaction(arguments))
    key = arguments[1]
    value = _value_or_error(arguments)
    if isinstance(value, bytes) and (yield from context.one_step.set(key, value)):
        return replies.OK
    while True:
        (head,) = yield [(b"GETRANGE", key, b"0", b"7")]
        store.check_tensor_head(head)
        if isinstance(value, CommandError):
            raise value
        # An empty answer means that there is no key, or an empty string; NX tells them apart.
        (reply,) = yield [(b"SET", key, value) if head else (b"SET", key, value, b"NX")]
        refuse_error(reply)
        if reply is not None:
            return replies.OK
        (size,) = yield [(b"STRLEN", key)]
        if size == 0:
            raise WrongType


def _value_or_error(arguments: Sequence[bytes]) -> bytes | CommandError:
    """Gives the tensor's string, or the error that is raised when the key has been looked at."""
    try:
        return store.tensor_value(parse_tensor(arguments[2:]))
    except CommandError as error:
        return error


def _set_in_transaction(arguments: Sequence[bytes]) -> Plan:
    """Nothing can be looked at before EXEC; a string that was no tensor is put back right after it."""
    key = arguments[1]
    value = _value_or_error(arguments)
    if isinstance(value, CommandError):
        (head,) = yield [(b"GETRANGE", key, b"0", b"7")]
        store.check_tensor_head(head)
        raise value
    ttl, old = yield [(b"PTTL", key), (b"SET", key, value, b"GET")]
    refuse_error(old)
    if old is not None and not store.is_tensor(old):
        yield [(b"SET", key, old, b"PX", b"%d" % ttl) if ttl > 0 else (b"SET", key, old)]
        raise WrongType
    return replies.OK


@command(
    "AI.TENSORGET",
    arity=(2, 4),
    flags=READ,
    keys=Keys(1),
    single_step=True,
    summary="Reads a tensor",
    made_of=("GET", "GETRANGE"),
)
def tensorget(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.TENSORGET key [META] [BLOB | VALUES]"""
    key = arguments[1]
    if [word.upper() for word in arguments[2:]] == [b"META"]:
        (value,) = yield [(b"GETRANGE", key, b"0", _HEADER_BYTES)]
        refuse_error(value)
        dtype, shape = store.parse_shape(value)
        return replies.array(_meta(dtype, shape))
    (value,) = yield [(b"GET", key)]
    return tensor_reply(tensor_of(value), parse_format(arguments[2:]), context.protocol)


def tensor_of(value: Any) -> Tensor:
    """Reads the tensor from GET's reply. Raises WrongType, or CommandError where there is none or Redis refused."""
    refuse_error(value)
    if value is None:
        raise CommandError(texts.TENSOR_MISSING)
    return store.parse_tensor(value)


def parse_tensor(arguments: Sequence[bytes]) -> Tensor:
    """Reads `type [dim ...] [BLOB data | VALUES value ...]`. Raises CommandError with RedisAI's text."""
    dtype = dtypes.by_wire_name(arguments[0])
    if dtype is None:
        raise CommandError(texts.BAD_DTYPE)
    shape: list[int] = []
    size = max(dtype.size, 1)  # bytes, of strings at least so many
    for position, word in enumerate(arguments[1:], 2):
        keyword = word.upper()
        if keyword == b"BLOB":
            return _from_blob(dtype, tuple(shape), arguments[position:])
        if keyword == b"VALUES":
            return _from_values(dtype, tuple(shape), arguments[position:])
        dimension = integer(word)
        if dimension is None or dimension <= 0:
            raise CommandError(texts.BAD_SHAPE)
        shape.append(dimension)
        if len(shape) > MAX_DIMENSIONS:
            raise CommandError(texts.TOO_MANY_DIMENSIONS)
        size *= dimension
        if size > _MAX_TENSOR_BYTES:
            raise CommandError(texts.BAD_SHAPE)
    return Tensor(dtype, tuple(shape), bytes(size))


def _from_blob(dtype: DType, shape: tuple[int, ...], rest: Sequence[bytes]) -> Tensor:
    if len(rest) != 1:
        raise CommandError(texts.BAD_BLOB_COUNT)
    blob = rest[0]
    if dtype.is_string:
        if blob.count(0) != element_count(shape) or blob[-1:] != b"\0":
            raise CommandError(texts.BAD_STRING_COUNT)
    elif len(blob) != dtype.size * element_count(shape):
        raise CommandError(texts.BAD_BLOB_SIZE)
    elif dtype is dtypes.BOOL and blob[:-1].strip(b"\0\1"):  # RedisAI leaves the last byte unchecked
        raise CommandError(texts.BAD_BOOL)
    return Tensor(dtype, shape, blob)


def _from_values(dtype: DType, shape: tuple[int, ...], values: Sequence[bytes]) -> Tensor:
    if len(values) != element_count(shape):
        raise CommandError(texts.BAD_VALUE_COUNT)
    if dtype.is_string:
        return Tensor(dtype, shape, b"".join(map(_terminated, values)))
    numbers = [double(value) for value in values] if dtype.is_float else [integer(value) for value in values]
    if None in numbers or not (dtype.is_float or _in_range(dtype, numbers)):
        raise CommandError(texts.BAD_VALUE)
    with np.errstate(over="ignore"):  # a FLOAT too large becomes infinite, as in RedisAI
        array = np.array(numbers, np.float64 if dtype.is_float else np.int64).astype(dtype.numpy)
    return Tensor(dtype, shape, array.tobytes())


def _in_range(dtype: DType, numbers: Sequence[float | None]) -> bool:
    """RedisAI takes no negative integer as text, whatever the dtype."""
    largest = 1 if dtype is dtypes.BOOL else np.iinfo(dtype.numpy).max
    return all(number is not None and 0 <= number <= largest for number in numbers)


def _terminated(value: bytes) -> bytes:
    """A value may bring its own final zero byte; an empty one counts as a zero byte inside."""
    text = value.removesuffix(b"\0")
    if not value or b"\0" in text:
        raise CommandError(texts.ZERO_BYTE)
    return text + b"\0"


def parse_format(words: Sequence[bytes]) -> frozenset[bytes]:
    """Reads `[META] [BLOB | VALUES]` in any order. Raises CommandError for other words and for BLOB with VALUES."""
    chosen: set[bytes] = set()
    for word in words:
        keyword = word.upper()
        if keyword not in _FORMATS:
            raise CommandError(texts.BAD_FORMAT)
        chosen.add(keyword)
        if b"BLOB" in chosen and b"VALUES" in chosen:
            raise CommandError(texts.BLOB_AND_VALUES)
    return frozenset(chosen) if chosen else _META_AND_BLOB


def tensor_reply(tensor: Tensor, form: frozenset[bytes], protocol: int) -> bytes:
    """Encodes what AI.TENSORGET answers for `tensor` in the form asked for."""
    if form == _META_AND_BLOB:
        return meta_before_blob(tensor.dtype, tensor.shape) + replies.bulk(tensor.blob)
    if b"BLOB" in form:
        return replies.bulk(tensor.blob)
    meta = _meta(tensor.dtype, tensor.shape) if b"META" in form else []
    if b"VALUES" not in form:
        return replies.array(meta)
    values = replies.array(_values(tensor, protocol))
    return replies.array([*meta, replies.text("values"), values]) if meta else values


@lru_cache(maxsize=4096)
def meta_before_blob(dtype: DType, shape: tuple[int, ...]) -> bytes:
    """Encodes AI.TENSORGET's answer up to the blob, most of which is the same again and again."""
    return b"*6\r\n" + b"".join([*_meta(dtype, shape), replies.text("blob")])


def _meta(dtype: DType, shape: tuple[int, ...]) -> list[bytes]:
    dimensions = replies.array([replies.integer(dimension) for dimension in shape])
    return [replies.text("dtype"), replies.text(dtype.name), replies.text("shape"), dimensions]


def _values(tensor: Tensor, protocol: int) -> list[bytes]:
    if tensor.dtype.is_string:
        return [replies.bulk(element) for element in bytes(tensor.blob).split(b"\0")[:-1]]
    if tensor.dtype.is_float:
        return [replies.double(value, protocol) for value in tensor.array().ravel().tolist()]
    numbers = np.frombuffer(tensor.blob, "u1") if tensor.dtype is dtypes.BOOL else tensor.array().ravel()
    return [replies.integer(value) for value in numbers.tolist()]
