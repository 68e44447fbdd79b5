"""
Which ONNX models can end the process that runs them, by the inputs that they are given.

A few of ONNX Runtime's operators do so for certain values (`operators.py`). Where such an operator gets numbers that
nobody knows in advance, the model can't be run in the engine's process. `reader.py` reads what decides about it,
`types.py` finds out which numbers aren't those that an operator dies of.
"""

from __future__ import annotations

from redisai_engine.backends.deadly.operators import DEADLY
from redisai_engine.backends.deadly.reader import read
from redisai_engine.backends.deadly.types import Types
from redisai_engine.backends.onnx_file import BadFile
from redisai_engine.backends.onnx_file import read as read_operators

_NAMES = [name.encode() for _, name in DEADLY]

#: Bytes of a model in which names are searched, which takes 2 ms for each MB. Reading a tree ensemble takes 17.
_SEARCHED = 1 << 22


def danger(blob: bytes) -> str:
    """Return what in an ONNX model may end the process that runs it, or an empty string."""
    try:
        if not _is_suspect(blob):  # the usual case
            return ""
        graph = read(blob)
    except BadFile as error:
        return f"it can't be read: {error}"
    suspects = [node for node in graph.nodes if node.operator in DEADLY]
    types = Types(graph) if any(DEADLY[node.operator] for node in suspects) else None
    for node in suspects:
        if not DEADLY[node.operator]:
            return f"it has an operator {node.operator[1]}"
        if types is None or not (types.are_harmless(node) or graph.is_harmless(node.inputs[1:])):
            return f"its operator {node.operator[1]} may divide integers by -1 or 0"
    return ""


def _is_suspect(blob: bytes) -> bool:
    """Return whether the model may have such an operator."""
    if len(blob) <= _SEARCHED:
        return any(name in blob for name in _NAMES)
    file = read_operators(blob)
    return any(node.operator in DEADLY for nodes in (file.nodes, file.inner) for node in nodes)
