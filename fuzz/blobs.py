"""
Mutated models of every backend, and mutated scripts: each is refused, or stored and run, and nobody else notices.

An input is one byte for the backend and the blob.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from fuzz import protobuf
from support.connection import Connection
from support.torch_scripts import ADD, BOTH, COMMAND, COUNT, DEEP, RUN_MODEL, deep

MODELS = Path(__file__).parent.parent / "tests" / "compat" / "transcripts" / "models"
KINDS = ("ONNX", "TORCH", "TF", "TFLITE", "SCRIPT")
CORPUS = Path(__file__).parent / "corpus" / "blobs"
_SUFFIXES = {"ONNX": ".onnx", "TORCH": ".pt", "TF": ".pb", "TFLITE": ".tflite"}
_NEEDS = {"ONNX": "onnxruntime", "TORCH": "torch", "TF": "tensorflow", "TFLITE": "ai_edge_litert", "SCRIPT": "torch"}
_MILLISECONDS = 1000  # that a run may take

_WORDS = (
    *(b"while True:\n        pass", b"torch.zeros([1 << 40])", b"torch.ones([1 << 20, 1 << 20])", b"print", b"self"),
    *(b"torch.from_file", b"torch.load", b"torch.save", b"redis.execute", b"int", b"Tensor", b"List", b"assert False"),
    *(
        b"1 // 0",
        b"'''",
        b"(" * 300,
        b"\\\n",
        b"#",
        b"\t",
        b"lambda",
        b"import os",
        b"annotate(int, 1)",
        b"[0] * (1 << 40)",
    ),
)


def kinds() -> list[str]:
    """Return the kinds of which the framework is installed here."""
    return [kind for kind in KINDS if importlib.util.find_spec(_NEEDS[kind])]


def inputs() -> st.SearchStrategy[bytes]:
    def mutated(kind: str, number: int, seed: int, times: int) -> bytes:
        blobs = seeds(kind)
        blob = blobs[number % len(blobs)]
        random = Random(seed)
        for _ in range(times):
            blob = _MUTATORS[kind](blob, random) if random.random() < 0.7 else spliced(blob, random)
        return bytes([KINDS.index(kind)]) + blob

    numbers = st.integers(0, 1000)
    return st.builds(mutated, st.sampled_from(kinds()), numbers, st.integers(0, 2**32), st.integers(0, 5))


@cache
def seeds(kind: str) -> list[bytes]:
    """Return small models that work, and what the corpus has."""
    number = KINDS.index(kind)
    blobs = [data[1:] for data in map(Path.read_bytes, sorted(CORPUS.iterdir())) if data[0] == number]
    if kind == "SCRIPT":
        scripts = [ADD, BOTH, COUNT, COMMAND, RUN_MODEL, *(deep(construct, 200) for construct in DEEP)]
        return [*blobs, *(script.encode() for script in scripts)]
    return [*blobs, *(path.read_bytes() for path in sorted(MODELS.glob(f"*{_SUFFIXES[kind]}")))]


def neighbours() -> dict[str, tuple[bytes, int]]:
    """Return a model that works, and the number of its outputs, of each backend of which models share a process."""
    models = {"TORCH": (MODELS / "add.pt", 1), "TFLITE": (CORPUS / "seed-tflite", 2)}
    return {
        kind: (path.read_bytes()[path.parent == CORPUS :], outputs)
        for kind, (path, outputs) in models.items()
        if kind in kinds()
    }


def spliced(blob: bytes, random: Random) -> bytes:
    """Return the bytes with some of them changed, left out or repeated."""
    start = random.randrange(len(blob) + 1)
    end = start + random.choice((0, 1, 4, 64))
    piece = random.choice((b"", random.randbytes(4), blob[end : end + 64], b"\xff\xff\xff\x7f", b"\0" * 8))
    return blob[:start] + piece + blob[end:]


def _archive(blob: bytes, random: Random) -> bytes:
    """Change one file in the zip archive that TorchScript is."""
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, zlib.error):
        return spliced(blob, random)
    name = random.choice(sorted(files) or ["a/code"])
    content = files.get(name, b"")
    files[name] = _source(content, random) if name.endswith(".py") else spliced(content, random)
    if random.random() < 0.05:
        files[f"{name}.zeros"] = bytes(64 << 20)
        return _zipped(files, zipfile.ZIP_DEFLATED)
    return _zipped(files, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _zipped(files: dict[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _source(source: bytes, random: Random) -> bytes:
    """Change a program by words: one is replaced by another of the program, or by an odd one."""
    words = source.split(b" ")
    place = random.randrange(len(words))
    if random.random() < 0.8:
        words[place] = random.choice((random.choice(_WORDS), random.choice(words)))
    else:
        words[place:place] = words[:place] * random.choice((1, 50))
    return b" ".join(words)[: 1 << 20]


_MUTATORS: dict[str, Callable[[bytes, Random], bytes]] = {
    "ONNX": protobuf.changed,
    "TF": protobuf.changed,
    "TORCH": _archive,
    "TFLITE": spliced,
    "SCRIPT": _source,
}


def warm(wire: Connection) -> None:
    """Let the engine import every framework, which takes seconds."""
    for kind in kinds():
        send(wire, bytes([KINDS.index(kind)]) + seeds(kind)[0])


def send(wire: Connection, data: bytes) -> None:
    """Store the model or script. If it is taken, run it on a few tensors."""
    kind, blob = KINDS[data[0] % len(KINDS)], data[1:]
    wire.send("DEL b y", "AI.TENSORSET x FLOAT 1 2 VALUES 1 2")
    wire.replies(2)
    if kind == "SCRIPT":
        stored = wire.ask("AI.SCRIPTSTORE", "b", "CPU", "ENTRY_POINTS", "1", _entry_point(blob), "SOURCE", blob)
    else:
        names = ["INPUTS", "2", "a", "b", "OUTPUTS", "1", "mul"] if kind == "TF" else []
        stored = wire.ask("AI.MODELSTORE", "b", kind, "CPU", *names, "BLOB", blob)
    if stored[:1] == b"+":
        _run(wire, kind, _entry_point(blob))


def _run(wire: Connection, kind: str, entry_point: bytes) -> None:
    what = [b"AI.SCRIPTEXECUTE", b"b", entry_point] if kind == "SCRIPT" else [b"AI.MODELEXECUTE", b"b"]
    for inputs, outputs in product((1, 2), repeat=2):
        names = ("INPUTS", inputs, *["x"] * inputs, "OUTPUTS", outputs, *["y"] * outputs)
        wire.ask(*what, *names, "TIMEOUT", _MILLISECONDS)


def _entry_point(source: bytes) -> bytes:
    return source.removeprefix(b"def ").partition(b"(")[0][:40] or b"f"
