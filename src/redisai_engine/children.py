"""What all processes started by the engine have in common: they end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h

_libc = ctypes.CDLL(None)  # here, because between fork and exec nothing may be loaded
_is_linux = os.uname().sysname == "Linux"


def end_with_parent() -> None:
    """Have Linux send SIGTERM to the calling process when its parent dies, even by SIGKILL. A no-op elsewhere."""
    if _is_linux:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
