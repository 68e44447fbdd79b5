"""
Where models of each backend run: in this process, perhaps after a probation, or in hosts.

Invariant: after `close` there are no hosts, and none can be started.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from redisai_engine.backends import registry
from redisai_engine.backends.base import Backend, BackendSettings, LoadedModel
from redisai_engine.backends.registry import PYTHON
from redisai_engine.backends.scripts import Script
from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.models import HostedBackend, HostLimits
from redisai_engine.execution.hosts.parent import Output, Parent
from redisai_engine.execution.hosts.probation import Probation
from redisai_engine.execution.hosts.scripts import compile_in_host
from redisai_engine.protocol import texts
from redisai_engine.protocol.patterns import KeyPatterns

#: The backends whose runs a thread can't stop, or whose models are programs.
HOSTED = ("TF", "TFLITE", "TORCH")

#: The backends whose small models share hosts, by what `hosts-per` says. With `auto` it is the one where a host takes
#: much beside the framework that all hosts have in common (measured, see docs/decisions/0009).
SHARING: dict[str, tuple[str, ...]] = {"auto": ("TFLITE",), "model": (), "backend": HOSTED}

#: The backend whose models run in this process, where a run of theirs can be stopped, but not a load or a crash.
_TRIED_OUT = "ONNX"

_LONGEST_SHOWN = 100  # bytes of a key in an error

#: What a host of a small model takes at most, besides the memory that it shares (measured: 1 to 13 MB).
HOST_BYTES = 16 * 2**20


class Placement:
    """
    The backends of one engine. Those of `HOSTED` run in hosts unless they are named in `in_process`.

    `sharing` are the kinds of those that have several models share hosts.

    What their hosts are forked from is stopped when nothing has needed it for `idle_seconds`; 0: never.
    `trusted` means that models aren't tried out before they are loaded in this process. `output` is where hosts print.
    `python` serves Python models under the keys that `python_keys` allow; without it there are none.
    """

    def __init__(
        self,
        host_limits: HostLimits,
        in_process: Collection[str] = (),
        output: Output | None = None,
        *,
        sharing: Mapping[str, type[HostedBackend]] | None = None,
        trusted: bool = False,
        idle_seconds: float = 0.0,
        python: Backend | None = None,
        python_keys: KeyPatterns | None = None,
    ) -> None:
        self._limits = host_limits
        self._parents = {name: Parent(name, output, idle_seconds=idle_seconds) for name in (*HOSTED, _TRIED_OUT)}
        self._hosted = {name: HostedBackend(parent, host_limits) for name, parent in self._parents.items()}
        self._sharing = {name: kind(self._parents[name], host_limits) for name, kind in (sharing or {}).items()}
        self._python = python
        self._python_keys = python_keys or KeyPatterns("*")
        self._in_process = {_TRIED_OUT, *in_process}
        self._probation = None if trusted else Probation(self._parents[_TRIED_OUT], host_limits)

    def backend(self, name: str, *, isolate: bool = False) -> Backend:
        """Return the backend that RedisAI calls `name`. Raise the errors of `registry.backend`, and ModelLoadError."""
        if name == PYTHON:
            if self._python is None:
                raise ModelLoadError(texts.PYTHON_OFF)
            return self._python
        if not self.is_hosted(name, isolate=isolate):
            return registry.backend(name)
        return self._hosted[name] if isolate else self._sharing.get(name, self._hosted[name])

    def check_key(self, name: str, key: bytes) -> None:
        """Raise ModelLoadError if models of this backend aren't served under a key."""
        if name == PYTHON and self._python is not None and not self._python_keys.allow(key):
            shown = ascii(key[:_LONGEST_SHOWN].decode("utf-8", "replace"))
            raise ModelLoadError(texts.PYTHON_ELSEWHERE % (self._python_keys.text, shown))

    def is_hosted(self, name: str, *, isolate: bool = False) -> bool:
        """
        Return whether models of this backend (for TORCH, scripts too) run in processes of their own.

        `isolate` is what one model asks for.
        """
        return name == PYTHON or (name in self._hosted and (isolate or name not in self._in_process))

    def is_isolated(self, name: str, loaded: LoadedModel) -> bool:
        """Return whether a model runs in a process of its own although its backend's models usually don't."""
        return loaded.is_elsewhere and not self.is_hosted(name)

    def probation(self, name: str) -> Probation | None:
        """Return where models of this backend are tried out before they are loaded in this process, if they are."""
        return self._probation if name == _TRIED_OUT else None

    def compile_script(
        self, source: str, entry_points: Sequence[str], device: str, settings: BackendSettings
    ) -> Script:
        """Compile a script where models of TORCH run. Raise ModelLoadError."""
        if not self.is_hosted("TORCH"):
            from redisai_engine.backends.torch_script import compile_script

            return compile_script(source, entry_points, device, settings)
        return compile_in_host(
            self._parents["TORCH"], self._limits, source, entry_points=entry_points, device=device, settings=settings
        )

    def awaited(self, name: str) -> Parent | None:
        """Return what must be started before a model of this backend is tried out, unless it is running."""
        parent = self._parents[_TRIED_OUT]
        return parent if self.probation(name) is not None and not parent.is_running else None

    def look(self) -> None:
        """Stop the processes that nothing has needed for long. Call it about once a second."""
        for parent in self._parents.values():
            parent.look()

    def loaded_versions(self) -> dict[str, str]:
        """Return the version of each framework that is loaded, by backend."""
        hosted = {name: parent.version for name, parent in self._parents.items() if parent.version}
        return hosted | registry.loaded_versions()

    def close(self) -> None:
        """End all hosts."""
        for parent in self._parents.values():
            parent.close()
        if self._python is not None:
            self._python.close()
