"""
The arguments of AI.MODELSTORE and of its predecessor AI.MODELSET: words in, `ModelOptions` and the blob out.

The order of the checks is RedisAI's, because it decides which error a client sees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from redisai_engine.backends.registry import NAMES, PYTHON
from redisai_engine.commands.grammar.words import Words, text, whole_number
from redisai_engine.errors import CommandError
from redisai_engine.protocol import texts

_DEVICE = re.compile(rb"[CG]PU(?::\d*)?", re.IGNORECASE)
_MAX_DEVICE = 9  # characters
_OLD_KEYWORDS = (b"TAG", b"BATCHSIZE", b"MINBATCHSIZE", b"MINBATCHTIMEOUT", b"INPUTS", b"OUTPUTS", b"BLOB")


@dataclass(slots=True)
class ModelOptions:
    """What a client specifies for a model besides its blob."""

    backend: str
    device: str
    tag: str = ""
    batch_size: int = 0
    min_batch_size: int = 0
    min_batch_timeout_ms: int = 0
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    isolate: bool = False  # RedisAI has no such option, and refuses it: it expects BLOB


def parse_modelstore(arguments: Sequence[bytes]) -> tuple[ModelOptions, bytes]:
    """
    Read `backend device [TAG t] [BATCHSIZE n ...] [ISOLATE] [INPUTS n ... OUTPUTS n ...] BLOB chunk ...`.

    Raise CommandError with RedisAI's text.
    """
    words = Words(list(arguments))
    options = ModelOptions(_backend(words), _device(words))
    options.tag = _tag(words)
    _batching(words, options)
    options.isolate = words.take_if(b"ISOLATE")
    if not words.rest:
        raise CommandError(texts.BLOB_MISSING)
    if options.backend == "TF" or (options.backend == PYTHON and words.is_next(b"INPUTS")):
        _counted_names(words, options)
    elif words.take_if(b"INPUTS"):
        raise CommandError(texts.INPUTS_REFUSED)
    return options, _blob(words)


def parse_modelset(arguments: Sequence[bytes]) -> tuple[ModelOptions, bytes]:
    """
    Read the deprecated form: names have no count, and unknown words before BLOB are skipped.

    Raise CommandError with RedisAI's text.
    """
    words = Words(list(arguments))
    backend = _backend(words)
    device = words.take() or b""
    if len(device) > _MAX_DEVICE or device.upper() in _OLD_KEYWORDS:
        raise CommandError(texts.BAD_DEVICE)
    options = ModelOptions(backend, text(device))
    options.tag = _tag(words)
    _old_batching(words, options)
    if not words.rest:
        raise CommandError(texts.BLOB_MISSING)
    if backend == "TF" or (backend == PYTHON and words.is_next(b"INPUTS")):
        _listed_names(words, options)
    while (word := words.take()) is not None and word.upper() != b"BLOB":
        pass
    if not words.rest:
        raise CommandError(texts.BLOB_MISSING)
    if device.upper()[:3] not in (b"CPU", b"GPU"):
        raise CommandError(texts.UNSUPPORTED_DEVICE)
    return options, b"".join(words.rest)


def _backend(words: Words) -> str:
    name = text(words.take() or b"").upper()
    if name not in NAMES:
        raise CommandError(texts.BAD_BACKEND)
    return name


def _device(words: Words) -> str:
    device = words.take() or b""
    if len(device) > _MAX_DEVICE or not _DEVICE.fullmatch(device):
        raise CommandError(texts.BAD_DEVICE)
    return text(device)


def _tag(words: Words) -> str:
    return text(words.take() or b"") if words.take_if(b"TAG") else ""


def _batching(words: Words, options: ModelOptions) -> None:
    options.batch_size = _number(words, "BATCHSIZE")
    options.min_batch_size = _number(words, "MINBATCHSIZE")
    if options.min_batch_size and not options.batch_size:
        raise CommandError(texts.MIN_WITHOUT_BATCH)
    options.min_batch_timeout_ms = _number(words, "MINBATCHTIMEOUT")
    if options.min_batch_timeout_ms and not options.min_batch_size:
        raise CommandError(texts.TIMEOUT_WITHOUT_MIN)


def _old_batching(words: Words, options: ModelOptions) -> None:
    """Read the same options as AI.MODELSET does: whether one may be there comes before its value."""
    if options.backend == "TFLITE" and words.is_next(b"BATCHSIZE"):
        raise CommandError(texts.TFLITE_BATCHING)
    options.batch_size = _number(words, "BATCHSIZE")
    if words.is_next(b"MINBATCHSIZE") and not options.batch_size:
        raise CommandError(texts.MIN_WITHOUT_BATCH)
    options.min_batch_size = _number(words, "MINBATCHSIZE")
    if words.is_next(b"MINBATCHTIMEOUT"):
        if not options.batch_size:
            raise CommandError(texts.TIMEOUT_WITHOUT_BATCH)
        if not options.min_batch_size:
            raise CommandError(texts.TIMEOUT_WITHOUT_MIN)
    options.min_batch_timeout_ms = _number(words, "MINBATCHTIMEOUT")


def _number(words: Words, name: str) -> int:
    if not words.take_if(name.encode()):
        return 0
    word = words.take()
    value = None if word is None else whole_number(word)
    if value is None or value < 0:
        raise CommandError(texts.BAD_OPTION % name)
    return value


def _counted_names(words: Words, options: ModelOptions) -> None:
    if not words.take_if(b"INPUTS"):
        raise CommandError(texts.TF_INPUTS_MISSING)
    options.inputs = _names(words, texts.BAD_INPUT_COUNT, texts.MODEL_INPUTS_COUNT)
    if not words.take_if(b"OUTPUTS"):
        raise CommandError(texts.TF_OUTPUTS_MISSING)
    options.outputs = _names(words, texts.BAD_OUTPUT_COUNT, texts.MODEL_OUTPUTS_COUNT)


def _names(words: Words, bad_count: str, too_few: str) -> list[str]:
    count = whole_number(words.take() or b"")
    if count is None or count <= 0:
        raise CommandError(bad_count)
    names = words.take_many(count)
    if len(names) < count:
        raise CommandError(too_few)
    return [text(name) for name in names]


def _listed_names(words: Words, options: ModelOptions) -> None:
    """Read `INPUTS name ... OUTPUTS name ...`, which only the backend TF needs, up to BLOB."""
    if words.rest[0].upper() == b"BLOB":
        raise CommandError(texts.OLD_TF_NAMES_MISSING)
    if not words.take_if(b"INPUTS"):
        raise CommandError(texts.INPUTS_MISSING)
    options.inputs = _names_before(words, (b"OUTPUTS", b"BLOB"))
    if not words.take_if(b"OUTPUTS"):
        raise CommandError(texts.OUTPUTS_MISSING)
    options.outputs = _names_before(words, (b"BLOB",))


def _names_before(words: Words, keywords: Sequence[bytes]) -> list[str]:
    names = []
    while words.rest and words.rest[0].upper() not in keywords:
        names.append(text(words.take() or b""))
    return names


def _blob(words: Words) -> bytes:
    if not words.take_if(b"BLOB"):
        raise CommandError(texts.BLOB_EXPECTED)
    rest = words.rest
    if not rest:
        raise CommandError(texts.BLOB_MISSING)
    return rest[0] if len(rest) == 1 else b"".join(rest)
