"""
The check of an interpreter that a model names by its path, before its process is started.

Invariant: the program is asked in an empty environment and a bounded time, and what it answers is read with distrust.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from redisai_engine.children import end_with_parent
from redisai_engine.environments.wanted import LEAST_PYTHON
from redisai_engine.errors import EnvironmentFailure
from redisai_engine.users import ModelUser

_ASK = (
    "import sys; from importlib.util import find_spec; import json; "
    "print(json.dumps([list(sys.version_info[:2]), [name for name in ('mlflow', 'numpy') if find_spec(name) is None]]))"
)
_SECONDS = 30.0  # a start from a cold disk
_LONGEST_PATH = 1000


def checked_interpreter(path: object, user: ModelUser | None = None) -> str:
    """
    Return the path of a Python that can serve a model. Raise EnvironmentFailure that says what is wrong with it.

    It is started as `user`, or as this user.
    """
    if not isinstance(path, str) or not path.isprintable() or len(path) > _LONGEST_PATH or not os.path.isabs(path):
        raise EnvironmentFailure(f"{str(path)[:100]!r} isn't the absolute path of a Python")
    if not os.path.isfile(path):
        raise EnvironmentFailure(f"the engine's machine has no file {path}")
    if not os.access(path, os.X_OK):
        raise EnvironmentFailure(f"{path} can't be executed by the engine's user")
    version, missing = _asked(path, user)
    if version < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        raise EnvironmentFailure(f"{path} is Python {'.'.join(map(str, version))}; models need {least} or newer")
    if missing:
        raise EnvironmentFailure(f"{path} has no {missing[0]}: {path} -m pip install {' '.join(missing)}")
    return path


def _asked(path: str, user: ModelUser | None) -> tuple[tuple[int, int], list[str]]:
    """Return a Python's version, and which of the needed packages it lacks."""
    try:
        told = subprocess.run(
            [path, "-I", "-c", _ASK],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
            preexec_fn=end_with_parent,
            user=None if user is None else user.id,
            group=None if user is None else user.group,
            extra_groups=None if user is None else [],
        ).stdout
        answer: Any = json.loads(told)
        (major, minor), missing = answer
        return (int(major), int(minor)), [str(name)[:20] for name in missing]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        raise EnvironmentFailure(f"{path} isn't a Python: it doesn't answer as one") from None
