"""A blob that has crashed a process is refused. One that is new is noted until it has run once."""

from __future__ import annotations

import gc
import re
import time
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from redisai_engine.backends.base import Array, LoadedModel, Outputs
from redisai_engine.errors import ModelRunError, Quarantined
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.notes import LOADING, RUNNING, Note, Notes
from redisai_engine.execution.quarantine import Quarantine, digest_of
from support.execution import Observed, load_onnx, rows
from support.gateway import model_blob

BLOB = model_blob("Add")
DIGEST = digest_of("ONNX", BLOB)
ID = b"0123456789abcdef"


def loaded(quarantine: Quarantine) -> RunnableModel:
    model = RunnableModel(quarantine.guarded(ID, DIGEST, lambda: load_onnx(BLOB))(), backend_name="ONNX")
    quarantine.watch(model, DIGEST)
    return model


def refusing(seconds: float = 100.0) -> Quarantine:
    quarantine = Quarantine()
    quarantine.take({DIGEST: (time.time() + seconds, "was ended by SIGSEGV")})
    return quarantine


def test_a_refused_blob_does_not_get_to_its_framework() -> None:
    def load() -> LoadedModel:
        raise AssertionError("loaded")

    with pytest.raises(Quarantined) as refused:
        refusing().guarded(ID, DIGEST, load)()

    assert re.sub(r"\d+ s:", "N s:", refused.value.wire) == (
        "ERR refused for another N s: the process that loaded or ran the model or script with digest "
        f"{DIGEST} was ended by SIGSEGV"
    )


def test_another_blob_is_not_refused_and_this_one_not_for_ever() -> None:
    quarantine = refusing()
    other = digest_of("ONNX", BLOB + b"x")

    assert quarantine.guarded(ID, other, lambda: 1)() == 1
    assert quarantine.refusal(ID) is None
    assert refusing(-1.0).guarded(ID, DIGEST, lambda: 1)() == 1


def test_what_was_loaded_before_is_named_by_its_ids() -> None:
    quarantine = Quarantine()
    loaded(quarantine)
    assert quarantine.refusal(ID) is None

    assert quarantine.take({DIGEST: (time.time() + 100, "hung")}) == [ID]

    assert isinstance(quarantine.refusal(ID), Quarantined)
    assert quarantine.take({}) == []
    assert quarantine.refusal(ID) is None


def test_what_has_failed_its_probation_is_refused_beside_what_has_crashed_a_process() -> None:
    """The parent of all workers knows of crashes only, and tells all of them anew each time."""
    quarantine = Quarantine()
    quarantine.check(ID, DIGEST)
    other = digest_of("ONNX", BLOB + b"x")

    assert quarantine.add({DIGEST: (time.time() + 100, "took too long")}) == [ID]
    assert quarantine.add({other: (time.time() + 100, "ended by signal 8 (SIGFPE)")}) == []
    assert quarantine.take({}) == []

    for digest in (DIGEST, other):
        with pytest.raises(Quarantined):
            quarantine.check(ID, digest)


def test_a_load_is_noted() -> None:
    notes = Notes()

    assert Quarantine(notes).guarded(ID, DIGEST, notes.read)() == [Note(LOADING, DIGEST)]

    assert notes.read() == []


class _Reading(LoadedModel):
    """The doubled sum of the model, and what is noted during its run."""

    def __init__(self, notes: Notes) -> None:
        self._model, self._notes = load_onnx(BLOB), notes
        self.inputs, self.outputs, self.seen = self._model.inputs, self._model.outputs, [[]]

    def run(self, arrays, stop=None):  # type: ignore[no-untyped-def]
        self.seen.append(self._notes.read())
        return self._model.run(arrays, stop)


@pytest.mark.parametrize("wary", [False, True])
def test_the_first_successful_run_is_noted_and_later_ones_only_by_a_wary_process(wary: bool) -> None:  # noqa: FBT001
    notes = Notes()
    quarantine = Quarantine(notes, wary=wary)
    own = _Reading(notes)
    model = RunnableModel(own, backend_name="ONNX")
    quarantine.watch(model, DIGEST)
    row = rows(1.0, width=2)[0][0]

    with pytest.raises(ModelRunError):
        model.loaded.run([row])  # the second input is missing
    for _ in range(3):
        assert model.loaded.run([row, row])[0].tolist() == [2.0, 2.0]

    noted, nothing = [Note(RUNNING, DIGEST)], []
    assert own.seen[1:] == [noted, noted, *[noted if wary else nothing] * 2]
    assert (model.loaded is own) is not wary
    assert (model.loaded.inputs, model.loaded.outputs) == (own.inputs, own.outputs)
    assert notes.read() == []


def test_a_run_on_made_up_inputs_is_noted_and_not_the_first() -> None:
    """A model that crashes on what clients send may bear what the engine makes up."""
    notes = Notes()
    own = _Reading(notes)
    model = RunnableModel(own, backend_name="ONNX")
    Quarantine(notes).watch(model, DIGEST)
    row = rows(1.0, width=2)[0][0]

    for run in (model.loaded.rehearse, model.loaded.rehearse, model.loaded.run, own.run):
        run([row, row])

    noted = [Note(RUNNING, DIGEST)]
    assert own.seen[1:] == [noted, noted, noted, []]
    assert model.loaded is own


@pytest.mark.parametrize("steady", [False, True])
def test_whether_a_model_is_steady_is_known_before_its_first_run(steady: bool) -> None:  # noqa: FBT001
    """A wary process runs nothing in its event loop, where it couldn't note it cheaply."""
    own = Observed(load_onnx(BLOB), steady=steady)
    model, doubted = (RunnableModel(own, backend_name="ONNX") for _ in range(2))
    Quarantine().watch(model, DIGEST)
    Quarantine(wary=True).watch(doubted, DIGEST)

    assert (model.loaded.steady, doubted.loaded.steady) == (steady, False)
    model.loaded.steady = False
    assert not own.steady


@pytest.mark.parametrize("has_run", [False, True], ids=["new", "has run"])
def test_a_model_that_leaves_memory_needs_no_garbage_collection(*, has_run: bool) -> None:
    class Weights(LoadedModel):
        def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
            return []

    model = RunnableModel(Weights(), backend_name="ONNX")
    gone = weakref.ref(model.loaded)
    Quarantine().watch(model, DIGEST)
    if has_run:
        model.loaded.run([])
    gc.disable()
    try:
        model.loaded.leaves()
        del model

        assert gone() is None
    finally:
        gc.enable()


def test_the_runs_of_a_model_that_has_left_memory_are_noted() -> None:
    notes = Notes()
    own = _Reading(notes)
    model = RunnableModel(own, backend_name="ONNX")
    Quarantine(notes).watch(model, DIGEST)
    model.loaded.leaves()
    row = rows(1.0, width=2)[0][0]

    for _ in range(2):
        assert model.loaded.run([row, row])[0].tolist() == [2.0, 2.0]
    assert own.seen[1:] == [[Note(RUNNING, DIGEST)]] * 2
