"""
Whether a stored model answers as the model itself does, found out before anybody is served by it.

Whose answers count is the converter's to say (`models.reference`); what "as" means is the codec's rule, in
`redisai_engine.codec.compare`. Invariant: a model is said to be verified only if its answer to an input example was
compared with one of the model's own.
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

PASSED = "passed"
OFF = "off"
_NOT_VERIFIED = "not verified: "
NO_EXAMPLE = f"{_NOT_VERIFIED}the model has no input example"


@dataclass(frozen=True)
class Verification:
    """
    What was found. `reference` is whose answer was compared with, None where none was.

    `rows` counts those of the input example that were run. `difference` is the largest one between numbers, relative to
    the largest number; None where none were compared. `tolerance` is what was allowed.
    """

    status: str
    rows: int = 0
    difference: float | None = None
    tolerance: float | None = None
    reference: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user is told unasked: nothing if verification is off."""
        return (self.status,) if self.status.startswith(_NOT_VERIFIED) else ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(run: Run, deployable: Deployable, model: MlflowModel) -> Verification:
    """
    Run the model's input example through `run` and compare the answer with the model's own.

    `run` takes the tensors of one request and returns the fetched outputs (`mapping.fetch`), in that order.
    Raise VerificationFailed naming the largest difference.
    """
    example = deployable.example if model.input_example is None else model.input_example
    if example is None:
        return Verification(NO_EXAMPLE)
    reference, mapping = deployable.reference, deployable.mapping
    if isinstance(reference, NoReference):
        # Still run: the server may fail on it.
        return Verification(f"{_NOT_VERIFIED}{reference.reason}", predict(run, mapping, example)[1])
    expected = _expected(reference, example)
    actual, rows = predict(run, mapping, example)
    tolerance = tolerance_of(mapping)
    try:
        difference = compare(expected, actual, tolerance)
    except Difference as found:
        raise VerificationFailed(reference.kind, str(found)) from None
    return Verification(PASSED, rows, difference, tolerance, reference.kind)


def _expected(reference: Reference, example: Any) -> Any:
    try:
        return reference.answer(example)
    # Whatever the model's own library raises: a user must not get its traceback for an answer.
    except Exception as error:
        raise VerificationFailed(
            reference.kind,
            f"{reference.kind} itself fails on it ({first_line(error)}); log the model with an example that it "
            "answers, or deploy it with -C verify=off",
        ) from error
