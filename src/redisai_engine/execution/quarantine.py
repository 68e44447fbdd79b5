"""
The quarantine: blobs that have crashed a process are refused for a while, in all processes.

Theory of operation. A blob is known by its digest, so storing it again under another key doesn't help it. While it is
loaded, and during its first run, there is a note of it (`notes.py`). When a process dies, the parent blames what was
noted (`process/crashes.py`) and tells all others, which drop what they have loaded of it.

Runs after the first aren't noted, because they may take place in the event loop, where a note would cost too much. Runs
on made-up inputs (`service/warming.py`) are noted and don't count as the first: clients send worse ones. A process that
was started after a death that no note explains is wary: it notes every run.

Invariant: a blob in quarantine gets neither to its framework nor, once this process knows, into a run.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redisai_engine.backends.base import Array, LoadedModel, Outputs, Stop
from redisai_engine.errors import Quarantined
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.notes import LOADING, RUNNING, Notes

try:
    # Importing hashlib has OpenSSL list all that it knows: 0.7 MB. Python's own module `random` avoids it in this way.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

T = TypeVar("T")

#: Digest to the time, in seconds since 1970, until which the blob is refused, and what it has done.
Table = dict[str, tuple[float, str]]

_DIGEST_BYTES = 32
_KNOWN_IDS = 10_000


def digest_of(backend: str, blob: bytes) -> str:
    """Return the name of a blob in the log, in errors and in the quarantine."""
    digest = blake2b(backend.encode() + b"\0", digest_size=_DIGEST_BYTES)
    digest.update(blob)  # which has up to gigabytes, so it isn't copied
    return digest.hexdigest()


class Quarantine:
    """What is refused, and the notes of this process. If it is `wary`, it notes every run."""

    def __init__(self, notes: Notes | None = None, *, wary: bool = False) -> None:
        self._notes = notes or Notes()
        self._is_wary = wary
        self._table: Table = {}  # told by the parent
        self._failed: Table = {}  # failed probation
        self._digests: OrderedDict[bytes, str] = OrderedDict()  # of models and scripts, by id

    def guarded(self, id_: bytes, digest: str, load: Callable[[], T]) -> Callable[[], T]:
        """Return a function that loads what has this id. It raises Quarantined for a blob that is refused."""

        def guarded() -> T:
            self.check(id_, digest)
            with self._notes.noted(LOADING, digest):
                return load()

        return guarded

    def check(self, id_: bytes, digest: str) -> None:
        """Remember that what has this id has this digest. Raise Quarantined if it is refused."""
        self._digests[id_] = digest
        if len(self._digests) > _KNOWN_IDS:
            self._digests.popitem(last=False)
        refusal = self._refusal(digest)
        if refusal is not None:
            raise refusal

    def watch(self, model: RunnableModel, digest: str) -> None:
        """Have the first run of a model that was just loaded noted."""
        model.loaded = _Watched(model, model.loaded, digest, self._notes, once=not self._is_wary)

    def take(self, table: Table) -> list[bytes]:
        """Take over what has crashed a process, all of it. Return the ids of what this process knows of it."""
        self._table = {digest: (until, why) for digest, (until, why) in table.items()}
        return self._ids_of(self._table)

    def add(self, table: Table) -> list[bytes]:
        """Refuse these, too, which have failed their probation. Return the ids of what this process knows of them."""
        now = time.time()
        self._failed = {digest: row for digest, row in self._failed.items() if row[0] > now}
        self._failed.update({digest: (until, why) for digest, (until, why) in table.items()})
        return self._ids_of(table)

    def _ids_of(self, table: Table) -> list[bytes]:
        return [id_ for id_, digest in list(self._digests.items()) if digest in table]

    def refusal(self, id_: bytes) -> Quarantined | None:
        """Return the error with which the model or script with this id is refused now, if it is."""
        digest = self._digests.get(id_)
        return None if digest is None else self._refusal(digest)

    def _refusal(self, digest: str) -> Quarantined | None:
        until, why = self._table.get(digest) or self._failed.get(digest, (0.0, ""))
        seconds = until - time.time()
        return Quarantined(digest, why, seconds) if seconds > 0 else None


class _Watched(LoadedModel):
    """A model whose run is noted. With `once`, the model takes its own place after a successful run."""

    def __init__(
        self,
        model: RunnableModel | None,
        loaded: LoadedModel,
        digest: str,
        notes: Notes,
        *,
        once: bool,
        form: LoadedModel | None = None,
    ) -> None:
        """With `form`, run that form of what is loaded instead. Without a model, all runs are noted."""
        self._model = model
        self._loaded = loaded
        self._own = form or loaded
        self._digest = digest
        self._notes = notes
        self._once = once
        self.inputs = self._own.inputs
        self.outputs = self._own.outputs
        self.input_infos = self._own.input_infos
        self.output_infos = self._own.output_infos
        self.loop_rows = self._own.loop_rows
        self.takes_text = self._own.takes_text

    @property
    def steady(self) -> bool:
        return self._once and self._own.steady

    @steady.setter
    def steady(self, value: bool) -> None:
        self._own.steady = value

    def in_own_types(self) -> LoadedModel | None:
        form = self._own.in_own_types()
        if form is None or form is self._own:
            return None if form is None else self
        return _Watched(self._model, self._loaded, self._digest, self._notes, once=self._once, form=form)

    def example(self) -> list[Array] | None:
        return self._own.example()

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        with self._notes.noted(RUNNING, self._digest):
            outputs = self._own.run(arrays, stop)
        model = self._model
        if self._once and model is not None:
            model.loaded = self._loaded
        return outputs

    def rehearse(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        with self._notes.noted(RUNNING, self._digest):
            return self._own.rehearse(arrays, stop)

    def leaves(self) -> None:
        """Break the circle of references, which would keep the model in memory until the next garbage collection."""
        self._model = None

    def new_stop(self) -> Stop | None:
        return self._own.new_stop()
