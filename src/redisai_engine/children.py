"""What all processes that the engine starts have in common."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # from Linux' prctl.h


def end_with_parent() -> None:
    """Has Linux send SIGTERM to this process when the one that started it dies, however it dies."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
