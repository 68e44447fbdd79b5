"""
The storage format: a tensor is one Redis string, a model or script is one Redis hash.

This module converts them to the arguments of plain Redis commands and back. It sends nothing itself.

Invariants: a tensor's value starts with a header whose first eight bytes are `TENSOR_MAGIC`. The header has at least 48
bytes and a multiple of 16, so that Redis never embeds the string in its object and the blob is aligned. A model's hash
has the field `MARKER`, a script's hash has `SCRIPT_MARKER`; a key without them isn't the engine's. Every store gives a
model or script a new id, so an id names one version forever.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from redisai_engine.errors import BadMetadata, CommandError, UpstreamError, WrongType
from redisai_engine.protocol import texts
from redisai_engine.protocol.dtypes import DTYPES, DType
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import MAX_DIMENSIONS, Buffer, Tensor, element_count, holds_texts, is_shape
from redisai_engine.redis.metadata import MAX_METADATA, Metadata

TENSOR_MAGIC = b"\x00AITENS\x01"  # the last byte is the version of the format
_HEADER = struct.Struct("<8sBBHI")  # magic, code of the dtype, number of dimensions, unused, header's size in bytes
_HEADER_MAX = _HEADER.size + 8 * MAX_DIMENSIONS  # bytes: a multiple of 16, to which headers are padded
_HEADER_MIN = 48  # bytes; Redis embeds strings of up to 44 bytes, which shows in OBJECT ENCODING

# The fields of a model's hash. AI.MODELDEL deletes exactly these, so it can't destroy a hash of another kind.
MARKER = b"ai.model"
FORMAT = b"1"
ID = b"ai.model:id"
META = b"ai.model:meta"
_BLOB = b"ai.model:blob:%d"
_MAX_BLOB_FIELDS = 64

# The fields of a script's hash, for the same reason.
SCRIPT_MARKER = b"ai.script"
SCRIPT_ID = b"ai.script:id"
SCRIPT_META = b"ai.script:meta"
SCRIPT_SOURCE = b"ai.script:source"

BLOB_FIELD_SIZE = 64 * 1024 * 1024  # bytes of a model in one hash field; Redis allows at most 512 MiB per argument
MAX_BLOB = _MAX_BLOB_FIELDS * BLOB_FIELD_SIZE  # bytes of a model


# Headers are cached both ways: an application uses few shapes, and each header costs more than its dictionary look-up.
@lru_cache(maxsize=4096)
def header(code: int, shape: tuple[int, ...]) -> bytes:
    size = max(_HEADER_MIN, -(-(_HEADER.size + 8 * len(shape)) // 16) * 16)
    packed = _HEADER.pack(TENSOR_MAGIC, code, len(shape), 0, size) + struct.pack(f"<{len(shape)}q", *shape)
    return packed.ljust(size, b"\0")


# At most `_HEADER_MAX` bytes get here, to be kept: whoever may write a string chooses what it says of its length.
@lru_cache(maxsize=4096)
def parse_header(header: bytes) -> tuple[DType, tuple[int, ...]]:
    """Read dtype and shape. Raise WrongType for bytes that no header has, CommandError for too many dimensions."""
    if len(header) < _HEADER_MIN:
        raise WrongType
    _, code, dimensions, _, size = _HEADER.unpack_from(header)
    if code >= len(DTYPES) or size < _HEADER.size + 8 * dimensions:
        raise WrongType
    if dimensions > MAX_DIMENSIONS:
        raise CommandError(texts.TOO_MANY_DIMENSIONS)
    if size != len(header):
        raise WrongType
    shape = struct.unpack_from(f"<{dimensions}q", header, _HEADER.size)
    if not is_shape(shape):
        raise WrongType
    return DTYPES[code], shape


def tensor_value(tensor: Tensor) -> bytes:
    """Return the string that holds `tensor` in Redis."""
    return header(tensor.dtype.code, tensor.shape) + tensor.blob


def is_tensor(prefix: Buffer | None) -> bool:
    """Return whether a string that starts with `prefix`, of at least eight bytes, is a tensor."""
    return prefix is not None and bytes(prefix[:8]) == TENSOR_MAGIC


def check_tensor_head(head: object) -> None:
    """
    Check that a key holds a tensor or nothing, by GETRANGE's reply for its first eight bytes.

    Raise WrongType for another string, UpstreamError for an error reply.
    """
    if isinstance(head, ReplyError):
        raise UpstreamError(head.text)
    if head and not (isinstance(head, bytes) and is_tensor(head)):
        raise WrongType


def parse_tensor(value: bytes) -> Tensor:
    """Read a tensor from its Redis string without copying the blob. Raise WrongType for any other string."""
    if value[:8] != TENSOR_MAGIC or len(value) < _HEADER_MIN:
        raise WrongType
    size = int.from_bytes(value[12:16], "little")  # the header's, after which the blob starts
    dtype, shape = parse_header(value[: size if size <= _HEADER_MAX else _HEADER_MAX])
    blob = memoryview(value)[size:]
    # A plain command, such as APPEND, may have changed the string.
    count = element_count(shape)
    if len(blob) != dtype.size * count if dtype.size else not holds_texts(value, count, size):
        raise WrongType
    return Tensor(dtype, shape, blob)


def parse_shape(prefix: bytes) -> tuple[DType, tuple[int, ...]]:
    """
    Read dtype and shape from a tensor's first bytes, which must include its header.

    Raise CommandError if `prefix` is empty, because the key doesn't exist, and WrongType for another string.
    """
    if not prefix:
        raise CommandError(texts.TENSOR_MISSING)
    if prefix[:8] != TENSOR_MAGIC or len(prefix) < _HEADER_MIN:
        raise WrongType
    return parse_header(prefix[: min(int.from_bytes(prefix[12:16], "little"), _HEADER_MAX)])


def new_id() -> str:
    return os.urandom(8).hex()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """
    What is stored of a model besides its blob. Names and tag have surrogates for bytes that aren't UTF-8.

    `isolate` asks for a process of the model's own, whatever its backend.
    """

    backend: str
    device: str
    tag: str = ""
    batch_size: int = 0
    min_batch_size: int = 0
    min_batch_timeout_ms: int = 0
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    blob_size: int = 0
    isolate: bool = False
    id: str = field(default_factory=new_id)

    @property
    def blob_fields(self) -> list[tuple[bytes, int]]:
        """The names of the hash fields that hold the blob, in order, each with the size of its part in bytes."""
        starts = range(0, max(1, self.blob_size), BLOB_FIELD_SIZE)
        return [(_BLOB % i, min(BLOB_FIELD_SIZE, self.blob_size - start)) for i, start in enumerate(starts)]


def model_fields(meta: ModelInfo, blob: bytes) -> list[Buffer]:
    """
    Return field, value, field, value ... of the hash that holds a model.

    Raise CommandError for a model that is too large, or whose tag and names are too long.
    """
    if len(blob) > MAX_BLOB:
        raise CommandError(texts.MODEL_TOO_LARGE % (len(blob), MAX_BLOB))
    fields: list[Buffer] = [MARKER, FORMAT, ID, meta.id.encode(), META, _described(meta)]
    view = memoryview(blob)
    for i, (name, size) in enumerate(meta.blob_fields):
        fields += [name, view[i * BLOB_FIELD_SIZE :][:size]]
    return fields


def _described(meta: ModelInfo | ScriptInfo) -> bytes:
    described = json.dumps(asdict(meta)).encode()
    if len(described) > MAX_METADATA:
        raise CommandError(texts.DESCRIPTION_TOO_LARGE % (len(described), MAX_METADATA))
    return described


MODEL_BLOB_FIELDS: tuple[bytes, ...] = tuple(_BLOB % i for i in range(_MAX_BLOB_FIELDS))
MODEL_FIELDS: tuple[bytes, ...] = (MARKER, ID, META, *MODEL_BLOB_FIELDS)


def parse_meta(raw: object, id_: object) -> ModelInfo:
    """Read a model's description. `id_` is what the hash has as id. Raise BadMetadata."""
    fields = Metadata(raw)
    return ModelInfo(
        fields.text("backend"),
        fields.device(),
        fields.text("tag"),
        fields.number("batch_size"),
        fields.number("min_batch_size"),
        fields.number("min_batch_timeout_ms"),
        fields.texts("inputs"),
        fields.texts("outputs"),
        fields.number("blob_size", MAX_BLOB),
        fields.flag("isolate"),
        fields.id(id_),
    )


@dataclass(frozen=True, slots=True)
class ScriptInfo:
    """What is stored of a script besides its source. A script stored by AI.SCRIPTSET has no entry points."""

    device: str
    tag: str = ""
    entry_points: tuple[str, ...] = ()
    id: str = field(default_factory=new_id)


def script_fields(meta: ScriptInfo, source: str) -> list[Buffer]:
    """Return field, value ... of the hash that holds a script. Raise CommandError for too long a tag and names."""
    raw = source.encode("utf-8", "surrogateescape")
    return [SCRIPT_MARKER, FORMAT, SCRIPT_ID, meta.id.encode(), SCRIPT_META, _described(meta), SCRIPT_SOURCE, raw]


def parse_script_meta(raw: object, id_: object) -> ScriptInfo:
    """Read a script's description. `id_` is what the hash has as id. Raise BadMetadata."""
    fields = Metadata(raw)
    return ScriptInfo(fields.device(), fields.text("tag"), fields.texts("entry_points"), fields.id(id_))


def check_format(marker: object) -> None:
    """Check the value of a marker. Raise BadMetadata for a format that isn't this version's."""
    if marker != FORMAT:
        raise BadMetadata(f"is {marker!r:.40}; this version reads {FORMAT!r}", "format")


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of object stored as a hash: the field that marks it, and all its fields including the marker.

    `head` is marker, id and description.
    """

    marker: bytes
    fields: tuple[bytes, ...]
    head: tuple[bytes, bytes, bytes]
    parse: Callable[[object, object], ModelInfo | ScriptInfo]

    def tag(self, marker: object, id_: object, description: object) -> str:
        """Return the tag, by the values of `head`. Raise BadMetadata."""
        check_format(marker)
        return self.parse(description, id_).tag


MODEL = Kind(MARKER, MODEL_FIELDS, (MARKER, ID, META), parse_meta)
_SCRIPT_HEAD = (SCRIPT_MARKER, SCRIPT_ID, SCRIPT_META)
SCRIPT = Kind(SCRIPT_MARKER, (*_SCRIPT_HEAD, SCRIPT_SOURCE), _SCRIPT_HEAD, parse_script_meta)
