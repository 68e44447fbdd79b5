"""What a server's ONNX Runtime can load, by its version. `facts` asks for the version."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """The newest versions that the server's ONNX Runtime can load. The defaults load everywhere, in RedisAI 1.2 too."""

    opset: int = 15
    ml_opset: int = 2
    ir_version: int = 8


# Version of ONNX Runtime, and what it loads: opset of ai.onnx, opset of ai.onnx.ml, IR version. From ONNX Runtime's
# table of compatible ONNX releases; 1.11 and 1.17 were also tried. A version in between loads what the previous row
# says. Of ai.onnx.ml 3, 1.11 knows the definitions but lacks the kernels for trees, which 1.12 has.
LIMITS_BY_RUNTIME: tuple[tuple[tuple[int, int], ServerLimits], ...] = (
    ((1, 9), ServerLimits(opset=15, ml_opset=2, ir_version=8)),
    ((1, 11), ServerLimits(opset=16, ml_opset=2, ir_version=8)),
    ((1, 12), ServerLimits(opset=17, ml_opset=3, ir_version=8)),
    ((1, 14), ServerLimits(opset=18, ml_opset=3, ir_version=8)),
    ((1, 15), ServerLimits(opset=19, ml_opset=3, ir_version=9)),
    ((1, 17), ServerLimits(opset=20, ml_opset=4, ir_version=9)),
    ((1, 18), ServerLimits(opset=21, ml_opset=5, ir_version=10)),
    ((1, 21), ServerLimits(opset=22, ml_opset=5, ir_version=10)),
)


def limits_of(onnxruntime: str | None) -> ServerLimits:
    """Return what that version of ONNX Runtime can load, or what loads everywhere if the version is unknown."""
    found = re.match(r"(\d+)\.(\d+)", onnxruntime or "")
    limits = ServerLimits()
    if found is None:
        return limits
    version = (int(found[1]), int(found[2]))
    for since, its_limits in LIMITS_BY_RUNTIME:
        if version >= since:
            limits = its_limits
    return limits
