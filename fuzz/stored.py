"""Targets for what is stored: tensors, metadata of models and scripts, and what a RedisAI's DUMP contains."""

from __future__ import annotations

import contextlib

from fuzz.choices import Choices
from redisai_engine.commands.grammar.tensors import parse_tensor
from redisai_engine.errors import EngineError
from redisai_engine.protocol import dtypes, lzf
from redisai_engine.protocol.dump import DumpedModel, DumpError, decode_dump
from redisai_engine.protocol.tensor import Tensor
from redisai_engine.redis import store
from support.dumps import sealed

_WORDS = (b"BLOB", b"VALUES", b"FLOAT", b"INT8", b"STRING", b"BOOL", b"1", b"0", b"32", b"1e999", b"nan", b"\0", b"")


def tensors(data: bytes) -> None:
    """A string is a tensor whose elements can be read and written again, or isn't one."""
    value = data if data[:1] == b"\0" else store.TENSOR_MAGIC + Choices(data[1:]).stretched()
    with contextlib.suppress(EngineError):
        store.parse_shape(value[:512])
    with contextlib.suppress(EngineError):
        _check(store.parse_tensor(value))


def tensor_words(data: bytes) -> None:
    """The words of AI.TENSORSET make a tensor or a command error."""
    choices = Choices(data)
    words = [choices.one(dtypes.DTYPES).name.encode()]
    for _ in range(choices.byte() % 40):
        words.append(choices.one(_WORDS) if choices.flag() else choices.take(choices.byte() % 20))
    with contextlib.suppress(EngineError):
        tensor = parse_tensor(words).tensor
        if (
            len(tensor.blob) < 1 << 18
        ):  # of texts, each an object; without values a short command makes up to 512 MiB of zeros, as in RedisAI
            _check(tensor)


def _check(tensor: Tensor) -> None:
    array = tensor.array()
    assert array.shape == tensor.shape
    again = Tensor.from_array(array)
    assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
    assert tensor.dtype in (dtypes.BOOL, dtypes.STRING) or again.blob == bytes(tensor.blob)


def metadata(data: bytes) -> None:
    """Metadata that anyone may have written describes a model or script, or is refused."""
    choices = Choices(data)
    id_ = choices.one((b"0123456789abcdef", None, b"", b"\xff", "text", b"x" * 300))
    raw = choices.stretched()
    with contextlib.suppress(EngineError):
        assert len(store.parse_meta(raw, id_).blob_fields) <= len(store.MODEL_FIELDS)
    with contextlib.suppress(EngineError):
        store.parse_script_meta(raw, id_)


def dumps(data: bytes) -> None:
    """A payload of RESTORE is a value, another module's, or damaged."""
    payload = data if data[:2] == b"\x07\x81" else sealed(Choices(data).stretched()[:4096])
    with contextlib.suppress(DumpError):
        value = decode_dump(payload)
        if isinstance(value, Tensor):
            _check(value)
        elif isinstance(value, DumpedModel):
            assert isinstance(value.blob, bytes)


def compressed(data: bytes) -> None:
    """Compressed bytes expand to the stated length or are damaged."""
    choices = Choices(data)
    length = choices.one((0, 1, 100, 10_000, 1 << 20, 1 << 63)) + choices.byte()
    with contextlib.suppress(lzf.LzfError):
        assert len(lzf.decompress(choices.stretched(), length)) == length
