"""
Verification: does a stored model answer as the original does? Asked before anyone relies on it.

The converter decides whose answers are the reference (`models.reference`). The codec decides what counts as equal
(`redisai_engine.codec.compare`).

Invariant: a model is reported as verified only if the server's answer, to the input example or to rows of a trial, was
compared with the original's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlflow_redisai.errors import VerificationFailed, first_line
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import NoReference, Reference
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.prediction import Run, predict
from redisai_engine.protocol.parcels import pack

PASSED = "passed"
PASSED_TRIALS = "passed (by trial rows: the model has no input example)"
OFF = "off"
_NOT_VERIFIED = "not verified: "
NO_EXAMPLE = f"{_NOT_VERIFIED}the model has no input example"


@dataclass(frozen=True)
class Verification:
    """
    The result of a verification. `reference` is whose answer was compared with, None if there was no comparison.

    `rows` is the number of rows that were run on the server: those of the input example, or else of a trial. `trials`
    is the number of rows that were compared before that, while converting. `difference` is the largest difference
    between two numbers, relative to the largest number, None if no numbers were compared. `tolerance` is the largest
    that is allowed.
    """

    status: str
    rows: int = 0
    difference: float | None = None
    tolerance: float | None = None
    reference: str | None = None
    trials: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told without asking: the status if the model is not verified, unless verification is off."""
        return (self.status,) if self.status.startswith(_NOT_VERIFIED) else ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def question(deployable: Deployable, model: MlflowModel) -> Any:
    """Return the input that the stored model and the original are both asked, or None if there is none."""
    example = deployable.example if model.input_example is None else model.input_example
    return deployable.sample if example is None else example


def verify(run: Run, deployable: Deployable, model: MlflowModel) -> Verification:
    """
    Run the model's input example through `run`, or else rows of its trials, and compare with the original's answer.

    `run` takes the tensors of one request and returns the fetched outputs, in the order of `mapping.fetch`. Raise
    VerificationFailed, which names the largest difference.
    """
    example = question(deployable, model)
    if example is None:
        return Verification(NO_EXAMPLE)
    reference, mapping = deployable.reference, deployable.mapping
    if isinstance(reference, NoReference):
        # The example is still run, because the server may fail on it.
        return Verification(f"{_NOT_VERIFIED}{reference.reason}", predict(run, mapping, example)[1])
    expected = _expected(reference, example)
    actual, rows = predict(run, mapping, example)
    if mapping.parcel and _is_the_same(expected, actual):
        return Verification(PASSED, rows, 0.0, 0.0, reference.kind)
    tolerance = tolerance_of(mapping)
    has_example = model.input_example is not None or deployable.example is not None
    try:
        difference = compare(expected, actual, tolerance)
    except Difference as found:
        asked = "the model's input example" if has_example else "rows of its trials"
        raise VerificationFailed(reference.kind, str(found), asked) from None
    status = PASSED if has_example else PASSED_TRIALS
    return Verification(status, rows, difference, tolerance, reference.kind, deployable.tried)


def _is_the_same(expected: Any, actual: Any) -> bool:
    """Return whether two answers of a Python model are the same to the last bit, wherever they hold what."""
    try:
        return pack(expected) == pack(actual)
    except TypeError:  # an object that no parcel takes, which the deployment has answered somehow else
        return False


def _expected(reference: Reference, example: Any) -> Any:
    try:
        return reference.answer(example)
    # Any library may raise anything here. A user gets a sentence, not its traceback.
    except Exception as error:
        raise VerificationFailed(
            reference.kind,
            f"{reference.kind} fails on it ({first_line(error)}); log the model with an example that it can answer, "
            "or deploy it with -C verify=off",
        ) from error
