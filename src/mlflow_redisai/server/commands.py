"""
RedisAI's commands as the plugin sends them, and the meaning of their replies. Does no I/O.

Replies are redis-py's, with decode_responses=False: bytes, ints and lists, in RESP3 also dicts. An error inside a reply
is an exception object in the element's place, and is raised as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.codec.record import fingerprint
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor

Blob = bytes | bytearray | memoryview
Argument = Blob | str | int
Command = list[Argument]

MODEL_TYPE = b"AI__MODEL"


class BadReply(ValueError):
    """A reply that RedisAI never sends."""


class RunTimedOut(Exception):
    """The server replied TIMEDOUT: the request waited in the queue for longer than its TIMEOUT."""


def text(value: bytes | str) -> str:
    """Return what the server sent as text. Bytes that are not UTF-8 become surrogates, which `raw` turns back."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "surrogateescape")


def raw(value: str) -> bytes:
    """Return a name or tag as the server's bytes: the inverse of `text`."""
    return value.encode("utf-8", "surrogateescape")


def pairs(reply: Any) -> dict[str, Any]:
    """Read a reply of alternating names and values, a list in RESP2 and possibly a map in RESP3. Raise BadReply."""
    if isinstance(reply, dict):
        return {text(name): value for name, value in reply.items()}
    if not isinstance(reply, list) or len(reply) % 2:
        raise BadReply(f"expected names and values, got {reply!r:.80}")
    return {text(name): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def raw_pairs(reply: Any) -> dict[bytes, bytes]:
    """Read the reply to HGETALL as bytes. Raise BadReply."""
    return {raw(name): bytes(value) for name, value in pairs(reply).items()}


# -- models --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ModelMeta:
    """What RedisAI stores about a model besides its blob. The fields have RedisAI's names."""

    backend: str
    device: str
    tag: str = ""
    batchsize: int = 0
    minbatchsize: int = 0
    minbatchtimeout: int = 0
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @classmethod
    def from_reply(cls, reply: Any) -> ModelMeta:
        """Read the reply to AI.MODELGET META. Raise BadReply."""
        found = pairs(reply)
        try:
            return cls(
                backend=text(found["backend"]),
                device=text(found["device"]),
                tag=text(found["tag"]),
                batchsize=int(found["batchsize"]),
                minbatchsize=int(found["minbatchsize"]),
                minbatchtimeout=int(found["minbatchtimeout"]),
                inputs=tuple(text(name) for name in found["inputs"]),
                outputs=tuple(text(name) for name in found["outputs"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadReply(f"AI.MODELGET META without a usable {error}") from error

    def fingerprint(self) -> str:
        """Return the digest of all fields, by which a record recognizes its model."""
        return fingerprint(**vars(self))


@dataclass(frozen=True)
class ModelToStore:
    """
    A model with everything that AI.MODELSTORE needs.

    `meta.inputs` and `meta.outputs` are used only for TF and PYFUNC. `chunk_bytes` is the most that one argument may
    hold. With `isolate`, the model gets a process of its own. RedisAI, which can't do that, refuses the command.
    """

    meta: ModelMeta
    blob: bytes
    chunk_bytes: int
    isolate: bool = False

    def command(self, key: bytes) -> Command:
        """Return the AI.MODELSTORE command. RedisAI requires the arguments in this order."""
        meta = self.meta
        command: Command = ["AI.MODELSTORE", key, meta.backend, meta.device]
        if meta.tag:
            command += ["TAG", raw(meta.tag)]
        # RedisAI accepts MINBATCHSIZE only after BATCHSIZE, and MINBATCHTIMEOUT only after MINBATCHSIZE.
        if meta.batchsize:
            command += ["BATCHSIZE", meta.batchsize]
            if meta.minbatchsize:
                command += ["MINBATCHSIZE", meta.minbatchsize]
                if meta.minbatchtimeout:
                    command += ["MINBATCHTIMEOUT", meta.minbatchtimeout]
        if self.isolate:
            command.append("ISOLATE")
        # The other backends find inputs and outputs in the model itself.
        if meta.backend in ("TF", "PYFUNC"):
            command += ["INPUTS", len(meta.inputs), *map(raw, meta.inputs)]
            command += ["OUTPUTS", len(meta.outputs), *map(raw, meta.outputs)]
        return [*command, "BLOB", *chunks(self.blob, self.chunk_bytes)]


def chunks(blob: Blob, size: int) -> list[Blob]:
    """Split a blob into pieces of at most `size` bytes without copying. A blob that fits is returned whole."""
    if len(blob) <= size:
        return [blob]
    view = memoryview(blob)
    return [view[start : start + size] for start in range(0, len(view), size)]


def joined_blob(reply: Any) -> bytes:
    """Read the reply to AI.MODELGET BLOB, which is a list of chunks if the model is large. Raise BadReply."""
    if isinstance(reply, bytes):
        return reply
    if isinstance(reply, list) and all(isinstance(chunk, bytes) for chunk in reply):
        return b"".join(reply)
    raise BadReply(f"AI.MODELGET BLOB answered {reply!r:.80}")


def scanned_names(reply: Any) -> list[tuple[bytes, str]]:
    """Read the reply to AI._MODELSCAN: pairs of key and tag. Raise BadReply."""
    if not isinstance(reply, list):
        raise BadReply(f"AI._MODELSCAN answered {reply!r:.80}")
    return [(bytes(key), text(tag)) for key, tag in reply]


# -- large commands ------------------------------------------------------------------------------


def argument_bytes(command: Command) -> int:
    """Return the total size of a command's arguments in bytes, without the integers, which are too short to matter."""
    return sum(len(argument) for argument in command if not isinstance(argument, int))


def pieces(command: Command, at_most: int) -> Iterator[Blob]:
    """
    Encode a command in the Redis protocol.

    Arguments larger than `at_most` bytes are yielded in pieces, without copying.
    """
    # Short arguments are joined, because each piece becomes one call of the socket.
    written = b"*%d\r\n" % len(command)
    for argument in command:
        data = raw(str(argument)) if isinstance(argument, str | int) else argument
        written += b"$%d\r\n" % len(data)
        if len(data) <= at_most:
            written += bytes(data)
        else:
            yield written
            yield from chunks(data, at_most)
            written = b""
        written += b"\r\n"
    yield written


# -- running a model -----------------------------------------------------------------------------


def dag(key: bytes, tensors: Sequence[Tensor], outputs: int, fetch: Iterable[int], timeout_ms: int) -> Command:
    """
    Build one read-only command that makes a prediction.

    It sets `tensors`, runs the model `key`, and gets the outputs whose indexes are in `fetch`. `outputs` is the number
    of outputs that the model has, because RedisAI requires a name for each. The names exist only inside the command.
    """
    inputs = [f"i{index}" for index in range(len(tensors))]
    # A DAG without LOAD and PERSIST needs ROUTING.
    command: Command = ["AI.DAGEXECUTE_RO", "ROUTING", key, "TIMEOUT", timeout_ms]
    for name, tensor in zip(inputs, tensors, strict=True):
        command += ["|>", "AI.TENSORSET", name, tensor.dtype.name, *tensor.shape, "BLOB", bytes(tensor.blob)]
    command += ["|>", "AI.MODELEXECUTE", key, "INPUTS", len(inputs), *inputs]
    command += ["OUTPUTS", outputs, *(f"o{index}" for index in range(outputs))]
    for index in fetch:
        command += ["|>", "AI.TENSORGET", f"o{index}", "META", "BLOB"]
    return command


def dag_tensors(reply: Any, fetched: int) -> list[Tensor]:
    """
    Return the tensors in the reply to `dag`: its last `fetched` elements.

    Raise RunTimedOut, BadReply, or the server's own error.
    """
    if isinstance(reply, Exception):
        raise reply
    elements = reply if isinstance(reply, list) else [reply]
    for element in elements:
        if isinstance(element, Exception):
            raise element
        if element == b"TIMEDOUT":
            raise RunTimedOut
    # NA marks an operation that was not run. RedisAI sends it only along with an error, which was raised above.
    if len(elements) <= fetched or b"NA" in elements:
        raise BadReply(f"AI.DAGEXECUTE_RO answered {reply!r:.80}")
    return [tensor(element) for element in elements[len(elements) - fetched :]]


def tensor(reply: Any) -> Tensor:
    """Read the reply to AI.TENSORGET META BLOB. Raise BadReply."""
    found = pairs(reply)
    try:
        dtype = dtypes.by_wire_name(bytes(found["dtype"]))
        shape = tuple(int(length) for length in found["shape"])
        blob = found["blob"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadReply(f"AI.TENSORGET META BLOB without a usable {error}") from error
    if dtype is None:
        raise BadReply(f"AI.TENSORGET answered with the unknown dtype {found['dtype']!r}")
    return Tensor(dtype, shape, blob)
