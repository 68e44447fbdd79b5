"""
What a child process is asked to convert, and what comes back from it. Both travel as pickles.

Invariant: an outcome holds values only: numpy, pandas and plain Python objects, and classes of this project. So the
process that reads it imports no library of the model's, and runs nothing of the model.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from typing import Any

from mlflow_redisai.errors import RedisAIError
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.server.limits import ServerLimits

# The packages whose objects are values.
_VALUES = {"builtins", "collections", "copyreg", "datetime", "decimal", "uuid", "zoneinfo", "_codecs"}
_VALUES |= {"numpy", "pandas", "pyarrow", "scipy", "mlflow_redisai", "redisai_engine"}


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """
    One model to convert for one backend. `path` is its folder on this machine, `uri` the name that it has in messages.

    `timeout_s` and `memory` (bytes) are the limits; None: none. `compare`: answer the input example too. `main` has
    pickles of classes and functions from the caller's `__main__`, by name. `environment` and `replicas` are for the
    backend PYFUNC.
    """

    uri: str
    path: str
    flavor: str
    backend: str
    opset: int | None
    limits: ServerLimits
    outputs: str | None
    environment: str = "uv"
    replicas: int = 1
    compare: bool = True
    timeout_s: float | None = None
    memory: int | None = None
    main: dict[str, bytes] = field(default_factory=dict)
    warning_filters: tuple[Any, ...] = ()
    log_levels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownAnswer:
    """The original's answer to the input example, or why it has none. It can be asked for nothing else."""

    value: Any = None
    failure: str | None = None

    def __call__(self, _example: Any) -> Any:
        if self.failure is not None:
            raise ValueError(self.failure)
        return self.value


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    A conversion's result, or the error that it ended with and the trace of it.

    The deployable has no mapping; `mapping` is its JSON. `wanted` are names that the model looked up in `__main__` in
    vain.
    """

    deployable: Deployable | None = None
    mapping: Any = None
    error: RedisAIError | None = None
    trace: str = ""
    wanted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Ended:
    """How a conversion's process ended. `crash` says how if not by itself; `too_long` and `too_large`: at a limit."""

    crash: str | None = None
    too_long: bool = False
    too_large: bool = False


class ValuesOnly(pickle.Unpickler):
    """Reads pickles of values. Raise UnpicklingError, naming the class, for any other object."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] not in _VALUES:
            raise pickle.UnpicklingError(f"a {module}.{name} is no value")
        return super().find_class(module, name)


def as_value(answer: Any) -> Any:
    """Return an answer as it arrives in another process. Raise PicklingError or UnpicklingError if it can't."""
    return ValuesOnly(io.BytesIO(pickle.dumps(answer))).load()
