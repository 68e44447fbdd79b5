"""
The verdict on a model: it is saved with MLflow, converted, and asked the same rows as `mlflow.pyfunc`.

The comparison is the census's own, so that a fault in the product's comparison shows. Conversion, codec and ONNX
Runtime run in this process, without a server.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from census.rounding import is_rounding
from census.rows import CannotTrain, Family, Question, Row, Trained

EQUAL, LIMITED, REFUSED, UNTRAINED = "equal", "limited", "refused", "untrained"
WRONG, HUNG, RAW = "wrong", "hung", "raw"
#: Verdicts that the project may not leave as they are.
FAULTS = (WRONG, HUNG, RAW)

# Numbers may differ by this much, relative to themselves or to the answer's average, and below the last in any case:
# the logarithm of a probability that is 1 but for rounding, and a probability that float32 can't hold.
_TOLERANCE = 1e-5
_TOLERANCE_OF_FLOAT32 = 5e-5
_NOTHING = 1e-12

# Questions with one number that is huge for any model, or that is none in a tensor, and the note of a deployment that
# refuses such numbers.
_HUGE = ("1e300 in", "1e30 in", "a large integer in", "infinity in", "minus infinity in", "a gap in a row")
_LIMIT = " are refused, because for these "


@dataclass(frozen=True)
class Verdict:
    """`reason` says why a model was refused, or where its answers differ."""

    kind: str
    reason: str = ""


def judge(row: Row, family: Family, seed: int, tell: Callable[[str], None]) -> Verdict:
    """Return the verdict on a row. `tell` is told what begins: training, converting, asking."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="census-") as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "model"
        tell("training")
        try:
            trained = family.train(row, seed)
            trained.save(path, row.method)
        except CannotTrain as reason:
            return Verdict(UNTRAINED, str(reason))
        # What MLflow can't save is no MLflow model.
        except Exception as error:
            return Verdict(UNTRAINED, f"MLflow can't save it: {_first_line(error)}")
        return _judged(path, trained, tell)


def _judged(path: Path, trained: Trained, tell: Callable[[str], None]) -> Verdict:
    from mlflow_redisai.errors import RedisAIError

    tell("converting")
    try:
        deployed = _deployed(path, trained.flavor)
    except RedisAIError as refusal:
        return _refusal(refusal)
    except Exception as error:
        return Verdict(RAW, f"create raises {type(error).__name__}: {_first_line(error)}")
    tell("asking")
    own = trained.own or deployed.expected
    found = [each for question in trained.questions if (each := _difference(question, own, deployed.predict))]
    if found and any(_LIMIT in note for note in deployed.deployable.notes) and all(map(_is_limit, found)):
        return Verdict(LIMITED, found[0].reason)
    return _joined(found) if found else Verdict(EQUAL)


def _is_limit(found: Verdict) -> bool:
    """Return whether a difference is only that a huge number is refused."""
    return found.kind == WRONG and found.reason.startswith(_HUGE) and _REFUSED in found.reason


_REFUSED = ": refused, but pyfunc answers: "


def _deployed(path: Path, flavor: str) -> Any:
    """Convert a saved model and load it with the backend that results. Networks have others than ONNX."""
    if flavor == "pytorch":
        from support.torch_models import deploy_torch as deploy
    elif flavor in ("keras", "tensorflow"):
        from support.tf_models import deploy_tf as deploy
    else:
        from support.local_runs import deploy
    return deploy(path, flavor)


def _joined(found: list[Verdict]) -> Verdict:
    """Return one verdict with the first reason, and the number of questions that went wrong like it or otherwise."""
    first = found[0]
    rest = f" (and {len(found) - 1} other questions)" if len(found) > 1 else ""
    return Verdict(WRONG if any(each.kind == WRONG for each in found) else first.kind, first.reason + rest)


def _difference(question: Question, own: Callable[[Any], Any], deployed: Callable[[Any], Any]) -> Verdict | None:
    """Return the verdict if the two differ on a question: each has to answer or to refuse, and equally."""
    from redisai_engine.codec.errors import CodecError

    expected, actual = _attempt(own, question.inputs), _attempt(deployed, question.inputs)
    if isinstance(expected, Exception) and isinstance(actual, Exception):
        return None
    if isinstance(actual, Exception) and not isinstance(actual, CodecError):
        return Verdict(RAW, f"{question.name}: predict raises {type(actual).__name__}: {_first_line(actual)}")
    if isinstance(expected, Exception):
        return Verdict(WRONG, f"{question.name}: answered, but pyfunc raises {_first_line(expected)}")
    if isinstance(actual, Exception):
        return Verdict(WRONG, f"{question.name}{_REFUSED}{_first_line(actual)}")
    found = differs(expected, actual)
    if found is None or (question.amplifies and is_rounding(own, question.inputs, expected, actual)):
        return None
    return Verdict(WRONG, f"{question.name}: {found}")


def _attempt(ask: Callable[[Any], Any], inputs: Any) -> Any:
    try:
        return ask(inputs)
    except Exception as error:
        return error


# -- comparing ------------------------------------------------------------------------------------


def differs(expected: Any, actual: Any) -> str | None:
    """Return where two answers differ, None if they are equal."""
    expected, actual = _plain(expected), _plain(actual)
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or list(expected) != list(actual):
            return f"{_kind(expected)} became {_kind(actual)}"
        return next((found for key in expected if (found := differs(expected[key], actual[key]))), None)
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(expected) != len(actual):
            return f"{_kind(expected)} became {_kind(actual)}"
        return next((found for pair in zip(expected, actual, strict=True) if (found := differs(*pair))), None)
    return _arrays_differ(np.asarray(expected), np.asarray(actual))


def _plain(answer: Any) -> Any:
    """Return frames as dicts of arrays, sparse matrices as arrays, and lists of numbers as arrays."""
    if hasattr(answer, "toarray"):
        return answer.toarray()
    if hasattr(answer, "columns"):
        return {name: answer[name].to_numpy() for name in answer.columns}
    if hasattr(answer, "to_numpy"):
        return answer.to_numpy()
    nested = isinstance(answer, (list, tuple)) and len(answer) and isinstance(answer[0], (list, dict, np.ndarray))
    return list(answer) if nested else answer


def _kind(answer: Any) -> str:
    if isinstance(answer, dict):
        return f"a dict of {list(answer)}"
    return f"a list of {len(answer)}" if isinstance(answer, list) else f"a {type(answer).__name__}"


def _arrays_differ(expected: Any, actual: Any) -> str | None:
    if expected.shape != actual.shape:
        return f"the shape {expected.shape} became {actual.shape}"
    if expected.dtype.kind == "f" and actual.dtype.kind in "fi":
        tolerance = _TOLERANCE_OF_FLOAT32 if expected.dtype == np.float32 else _TOLERANCE
        bad = ~_close(expected.astype(np.float64), actual.astype(np.float64), tolerance)
    elif "O" not in (expected.dtype.kind, actual.dtype.kind) and expected.dtype.kind != actual.dtype.kind:
        return f"the type {expected.dtype} became {actual.dtype}"
    else:
        pairs = zip(expected.ravel().tolist(), actual.ravel().tolist(), strict=True)
        bad = np.array([not _same(*pair) for pair in pairs], bool)
        bad = bad.reshape(expected.shape)
    if not bad.any():
        return None
    place = tuple(np.argwhere(bad)[0])
    where = f"{int(bad.sum())} of {bad.size} differ, in row {place[0] if place else 0}"
    return f"{where} {_item(expected[place])!r} became {_item(actual[place])!r}"


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _same(left: Any, right: Any) -> bool:
    return bool(left == right or (left != left and right != right))  # noqa: PLR0124


def _close(expected: Any, actual: Any, tolerance: float) -> Any:
    finite = np.abs(expected[np.isfinite(expected)])
    usual = float(finite.mean()) if finite.size and np.isfinite(finite.mean()) else 0.0
    return np.isclose(actual, expected, rtol=tolerance, atol=_NOTHING + tolerance * usual, equal_nan=True)


# -- refusals -------------------------------------------------------------------------------------


def _refusal(refusal: Exception) -> Verdict:
    """Return RAW for a refusal whose only reason is the text of another library, else REFUSED."""
    # The folder is another one each time.
    message = re.sub(r"\S*/census-\w+/model", "in its folder", str(getattr(refusal, "message", refusal)))
    return Verdict(RAW if is_raw(refusal, message) else REFUSED, message)


def is_raw(refusal: BaseException, message: str) -> bool:
    """
    Return whether a refusal gives no reason in our own words.

    That is so if another library's text, which its causes show, follows right after a sentence that fits any model. If
    several backends were tried, the causes are lost; then some marks give other libraries' texts away.
    """
    if _FOREIGN.search(message):
        return True
    cause = refusal.__cause__
    while cause is not None:
        if not type(cause).__module__.startswith(("mlflow_redisai", "redisai_engine")):
            text = _first_line(cause).rstrip(".")[:60]
            before, found, _ = message.partition(text)
            if len(text) > 3 and found and _OPENER.search(before):
                return True
        cause = cause.__cause__
    return False


#: Sentences of ours that say that something failed, and not why.
_OPENER = re.compile(r"(can't be [a-z]+[\w ]*|is invalid|refuses the [\w ]*graph of [^:]*): $")
_FOREIGN = re.compile(r": \[\w+Error\]|Traceback|aten::|tensorflow/core|github\.com")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
