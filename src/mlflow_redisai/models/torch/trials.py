"""
Inputs for trials of a conversion, and the module's own answers to them.

They are drawn from the input example and around it: few, many and reordered rows, other lengths where lengths are open,
numbers of other magnitudes and signs, whole numbers at the ends of what the example shows and beyond, gaps,
infinity and huge numbers. Where the module raises, so must the conversion.

Invariant: the same model gets the same trials every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.torch import pt2
from mlflow_redisai.models.torch.call import ModuleCall
from mlflow_redisai.models.torch.reading import TorchConversion
from mlflow_redisai.models.torch.trial import Trial
from mlflow_redisai.models.torch.watch import State, watching
from mlflow_redisai.models.trials.limits import indices, odd_numbers
from mlflow_redisai.models.trials.probes import made_up
from mlflow_redisai.models.trials.variations import change, nudged, same, varied
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Input, Schema
from redisai_engine.codec.values import Array

_SEED = 20260101
# The numbers of rows of trials. A model is traced with the first one.
_ROWS = (3, 1, 2, 7, 48, 64)
# The length of made-up input along axes that the signature leaves open.
_LENGTH = 6
# The most numbers of the trial with the most rows.
_MANY_ROWS, _MANY_NUMBERS = 520, 2**18
# TorchScript's operators that make a number or a truth value of a tensor.
_TO_PYTHON = ("Bool", "Float", "Int", "item", "ScalarImplicit")


@dataclass(frozen=True)
class Trials:
    """
    What is known of a module's behaviour.

    `odd` are trials with NaN, infinity and huge numbers, each with what is in it. `whole` are the least and the largest
    whole number that it takes, by input. `reads` is what its Python code read from its tensors during all of them.
    """

    structure: Structure
    plain: list[Trial]
    odd: list[tuple[float, Trial]]
    whole: dict[int, tuple[int | None, int | None]]
    reads: tuple[str, ...]


def try_out(conversion: TorchConversion) -> Trials:
    """Run the module on inputs for trials. Raise NotConvertible if it answers none, or not always the same."""
    call, state = conversion.call, State(conversion.call.module)
    with watching() as reads:
        structure, plain = _answered(conversion, list(_inputs(conversion)))
        _check_repeatable(call, structure, plain, state)
        start = next(trial.arrays for trial in plain if trial.problem is None)
        plain += [_trial(call, structure, arrays) for arrays in varied(start)]
        huge = not reads and not _loops(call.module)
        odd = [(size, _trial(call, structure, arrays)) for size, arrays in odd_numbers(start, huge=huge)]

        def answers(arrays: list[Array]) -> bool:
            return _trial(call, structure, arrays).problem is None

        whole = indices(start, answers) if any(trial.problem for trial in plain) else {}
    return Trials(structure, plain, odd, whole, tuple(reads))


def _loops(module: Any) -> bool:
    """Return whether TorchScript has a loop in it that may run as often as a tensor's number says."""
    script = str(getattr(module, "inlined_graph", ""))
    return "prim::Loop" in script and any(f"aten::{name}" in script for name in _TO_PYTHON)


def _answered(conversion: TorchConversion, inputs: Sequence[list[Array]]) -> tuple[Structure, list[Trial]]:
    """Return the structure of the module's output, and trials, the first one that it answers before all others."""
    structure, problem = None, None
    for arrays in inputs:
        try:
            structure = conversion.call.structure(arrays)
            break
        except NotConvertible:
            raise
        # Made-up input may not suit the model: an index beyond its vocabulary, or a length that it wasn't made for.
        except Exception as error:
            problem = problem or first_line(error)
    if structure is None:
        raise NotConvertible(
            f"{conversion.call.what} fails on its input example: {problem}"
            if conversion.example is not None
            else f"{conversion.call.what} fails on made-up input: {problem}; log it with an input example"
        )
    trials = [_trial(conversion.call, structure, arrays) for arrays in inputs]
    # A program's guards refuse lengths that it would answer. The plugin takes more rows than pyfunc on purpose.
    if conversion.program is not None:
        trials = [trial for trial in trials if trial.problem is None]
    return structure, sorted(trials, key=lambda trial: trial.problem is not None)


def _trial(call: ModuleCall, structure: Structure, arrays: list[Array]) -> Trial:
    try:
        answers = call.run(arrays, structure)
        return Trial(arrays, answers, sensitivity=_sensitivity(call, structure, arrays, answers))
    except Exception as error:
        return Trial(arrays, [], first_line(error))


def _sensitivity(call: ModuleCall, structure: Structure, arrays: list[Array], answers: list[Array]) -> float:
    """Return the largest change of the answers if the last bits of the inputs change."""
    random = np.random.default_rng(_SEED)
    changed = [nudged(random, array) for array in arrays]
    if all(one is other for one, other in zip(changed, arrays, strict=True)):
        return 0.0
    again = call.run(changed, structure)
    return max([0.0, *(change(one, other) for one, other in zip(answers, again, strict=True))])


def _check_repeatable(call: ModuleCall, structure: Structure, trials: Sequence[Trial], state: State) -> None:
    """Raise NotConvertible for a module that draws random numbers, or that remembers its calls."""
    changed = state.changed()
    if changed is not None:
        raise NotConvertible(
            f"{call.what} changes its own {changed!r} when it is called, but a stored model keeps no state between "
            "calls; log it without state, and after eval()"
        )
    first = trials[0]
    # A permutation of a few numbers may well come out the same twice.
    again = [answer for _ in range(3) for answer in call.run(first.arrays, structure)]
    if not all(same(*pair) for pair in zip(first.answers * 3, again, strict=True)):
        raise NotConvertible(
            f"{call.what} answers the same rows differently each time, because it draws random numbers or remembers "
            "its calls; log it without dropout, noise and state, after eval()"
        )


# -- inputs ---------------------------------------------------------------------------------------


def for_any_strides(conversion: TorchConversion) -> TorchConversion:
    """
    Drop a program's guards if they refuse its own example because of its layout in memory.

    torch.export turns the strides of its example into guards. If the example was a slice of a larger array, neither the
    stored example nor a request has these strides. The result doesn't depend on them, and the trials check that few and
    many rows are answered alike.
    """
    arrays = None if conversion.program is None else _encoded(conversion, conversion.example)
    if arrays is None:
        return conversion
    try:
        conversion.call.structure(arrays)
    except AssertionError as error:
        if ".stride()" in str(error):
            call = replace(conversion.call, module=pt2.without_guards(conversion.program))
            return replace(conversion, call=call, checked=False)
    # The trials report any other problem.
    except Exception:
        return conversion
    return conversion


def _inputs(conversion: TorchConversion) -> Iterator[list[Array]]:
    """Yield inputs with several numbers of rows and lengths: drawn from the example's rows, and made up around them."""
    random = np.random.default_rng(_SEED)
    start = _encoded(conversion, conversion.example)
    around = _encoded(conversion, made_up(_closed(conversion), conversion.example, {}))
    rows = start or around
    if rows is None:
        return
    many = min(_MANY_ROWS, _MANY_NUMBERS // max(1, sum(array[0].size for array in rows)))
    for count in (*_ROWS, *([many] if many > max(_ROWS) else [])):
        chosen = random.integers(0, len(rows[0]), count)
        yield [array[chosen] for array in rows]
    if around is not None:
        yield around
    for length in _other_lengths(conversion.call.inputs, rows):
        yield [_resized(array, item, length) for array, item in zip(rows, conversion.call.inputs, strict=True)]


def _encoded(conversion: TorchConversion, inputs: Any) -> list[Array] | None:
    if inputs is None:
        return None
    try:
        return [tensor.array() for tensor in Encoder(conversion.mapping()).encode(inputs)]
    except InputMismatch:
        return None


def _closed(conversion: TorchConversion) -> Schema:
    """Return the schema with a fixed length for every axis but the first."""
    fields = []
    for item, known in zip(conversion.schema.fields, conversion.call.inputs, strict=False):
        inner = known.shape[1:] if item.shape and known.shape else item.shape[1:]
        fields.append(replace(item, shape=(None, *[length or _LENGTH for length in inner])) if item.shape else item)
    return (
        replace(conversion.schema, fields=tuple(fields)) if conversion.schema.kind == "tensors" else conversion.schema
    )


def _other_lengths(inputs: tuple[Input, ...], rows: list[Array]) -> list[int]:
    """Return a shorter and a longer length to try for the first open inner axis, [] if no inner axis is open."""
    for item, array in zip(inputs, rows, strict=True):
        for axis, length in enumerate(item.shape or ()):
            if axis and length is None:
                return [max(1, array.shape[axis] // 2), array.shape[axis] + 1]
    return []


def _resized(array: Array, item: Input, length: int) -> Array:
    for axis, known in enumerate(item.shape or ()):
        if axis and known is None:
            array = np.take(array, np.arange(length) % array.shape[axis], axis=axis)
    return np.ascontiguousarray(array)
