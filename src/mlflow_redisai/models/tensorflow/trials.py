"""
Trials of a conversion: it must answer as the reference does, and fail where the reference fails.

The probes are the input example and made-up rows, in the form that pyfunc takes. Their variations have other numbers of
rows, magnitudes and signs, and whole numbers beyond what the example shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.reference import Reference
from mlflow_redisai.models.tensorflow.call import reason
from mlflow_redisai.models.trials.limits import NumberLimits, indices, limits_of, odd_numbers
from mlflow_redisai.models.trials.splitting import rows_in
from mlflow_redisai.models.trials.variations import change, nudged, varied
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.fields import is_frame
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import Run, predict
from redisai_engine.codec.values import Array

_SEED = 20260101
_ROWS = (1, 2, 7, 64)
# A change of the inputs' last bits is one rounding, of which a conversion has several. The most that this allows.
_AMPLIFIED, _MOST = 16, 1e-2


def check_repeatable(what: str, reference: Reference, probes: Sequence[Any]) -> None:
    """Raise NotConvertible for a model that draws random numbers, or that remembers its calls."""
    for probe in probes[:1]:
        try:
            first, again = reference.answer(probe), reference.answer(probe)
        # The comparison with the conversion reports it.
        except Exception:
            return
        try:
            compare(first, again, 0.0)
        except Difference as found:
            raise NotConvertible(
                f"{what} answers the same rows differently each time, because it draws random numbers or remembers its "
                "calls; log it without noise and state"
            ) from found


def check(
    what: str, run: Run, mapping: Mapping, reference: Reference, probes: Sequence[Any], *, opened: bool = False
) -> None:
    """
    Compare with the reference on the probes and their variations. Raise NotConvertible if any answer differs.

    Where the reference fails on a variation, so must the conversion. A made-up probe that it fails on may have a length
    that the model wasn't made for, and proves nothing. Nor does its failure on another number of rows if the conversion
    has been `opened` for any number.
    """
    answered = [probe for probe in probes if _checked(what, run, mapping, reference, probe, must_fail=False)]
    for probe in answered[:1]:
        for variation in _variations(probe, mapping):
            must_fail = not opened or rows_in(variation) == rows_in(probe)
            _checked(what, run, mapping, reference, variation, must_fail=must_fail)


def limits(what: str, run: Run, mapping: Mapping, reference: Reference, probes: Sequence[Any]) -> NumberLimits:
    """Return which numbers the conversion answers as the reference."""
    if mapping.schema is None or not probes:
        return NumberLimits()
    start, rebuild = _parts(probes[0])

    def right(arrays: list[Array]) -> bool:
        try:
            _checked(what, run, mapping, reference, rebuild(arrays), must_fail=True)
        except NotConvertible:
            return False
        return True

    def answers(arrays: list[Array]) -> bool:
        try:
            reference.answer(rebuild(arrays))
        # A network may raise anything for an index that it lacks.
        except Exception:
            return False
        return True

    found = limits_of(start, [(size, right(arrays)) for size, arrays in odd_numbers(start)])
    some_fail = not all(answers(arrays) for arrays in varied(start))
    return replace(found, whole=indices(start, answers) if some_fail else {})


def _checked(what: str, run: Run, mapping: Mapping, reference: Reference, probe: Any, *, must_fail: bool) -> bool:
    """Compare on one probe, and return whether the reference answers it. Raise NotConvertible."""
    try:
        expected = reference.answer(probe)
    except Exception as error:
        if must_fail and _answers(run, mapping, probe):
            raise NotConvertible(
                f"{what} raises an error for some input ({reason(error)}), which the conversion answers"
            ) from error
        return False
    try:
        actual, _ = predict(run, mapping, probe)
        tolerance = tolerance_of(mapping)
        compare(expected, actual, max(tolerance, _sensitivity(reference, probe, expected)) if must_fail else tolerance)
    except (Difference, InputMismatch) as found:
        raise NotConvertible(f"{what} answers differently after conversion: {found}") from found
    except NotConvertible:
        raise
    # Some mistakes of a converter appear only when the graph runs.
    except Exception as error:
        raise NotConvertible(
            f"{what} can't be run after conversion; some of its own input makes it fail (the backend: {reason(error)})"
        ) from error
    return True


def _answers(run: Run, mapping: Mapping, probe: Any) -> bool:
    try:
        predict(run, mapping, probe)
    except Exception:
        return False
    return True


def _sensitivity(reference: Reference, probe: Any, expected: Any) -> float:
    """Return how much rounding may change the answer, measured by changing the last bits of the input."""
    parts, rebuild = _parts(probe)
    random = np.random.default_rng(_SEED)
    again = reference.answer(rebuild([nudged(random, part) for part in parts]))
    pairs = zip(_arrays(expected), _arrays(again), strict=True)
    return min(_MOST, _AMPLIFIED * max([0.0, *(change(one, other) for one, other in pairs)]))


def _arrays(answer: Any) -> list[Array]:
    if isinstance(answer, dict):
        return [array for value in answer.values() for array in _arrays(value)]
    if isinstance(answer, list):
        return [array for value in answer for array in _arrays(value)]
    return [np.asarray(answer)]


def _variations(probe: Any, mapping: Mapping) -> Iterator[Any]:
    parts, rebuild = _parts(probe)
    if mapping.batch is None:
        for count in _ROWS:
            yield rebuild([part[np.arange(count) % len(part)] for part in parts])
    for arrays in varied(parts):
        yield rebuild(arrays)


def _parts(probe: Any) -> tuple[list[Array], Callable[[Sequence[Array]], Any]]:
    """Return the arrays of a probe, and a function that makes a probe of others. A frame of numbers is one array."""
    if isinstance(probe, dict):
        names = list(probe)
        return [np.asarray(value) for value in probe.values()], lambda arrays: dict(zip(names, arrays, strict=True))
    if not is_frame(probe):
        return [np.asarray(probe)], lambda arrays: arrays[0]
    import pandas as pd

    kinds = dict(probe.dtypes)

    def frame(arrays: Sequence[Array]) -> Any:
        return pd.DataFrame(arrays[0], columns=list(kinds)).astype(kinds)

    return [probe.to_numpy()], frame
