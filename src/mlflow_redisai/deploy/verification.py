"""
Says whether a stored model answers as mlflow.pyfunc does, before anybody is served by it.

What "as" means is the codec's rule, in `redisai_engine.codec.compare`.
Invariant: a model without input example is never said to be verified.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlflow_redisai.errors import VerificationFailed, first_line
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import MlflowModel
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.prediction import Run, predict

PASSED = "passed"
OFF = "off"
NO_EXAMPLE = "not verified: the model has no input example"


@dataclass(frozen=True)
class Verification:
    """What was found: `difference` is the largest one between numbers, relative; None where none were compared."""

    status: str
    rows: int = 0
    difference: float | None = None
    tolerance: float | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told unasked: nothing if he has asked for no verification."""
        return (self.status,) if self.status == NO_EXAMPLE else ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(run: Run, deployable: Deployable, model: MlflowModel) -> Verification:
    """
    Runs the model's input example through `run` and compares the answer with pyfunc's.

    `run` gets the tensors of one request and gives the fetched outputs (`mapping.fetch`), in that order.
    Raises VerificationFailed naming the largest difference.
    """
    example = model.input_example
    if example is None:
        return Verification(NO_EXAMPLE)
    mapping = deployable.mapping
    expected = _expected(model, example)
    actual, rows = predict(run, mapping, example)
    tolerance = tolerance_of(mapping)
    try:
        difference = compare(expected, actual, tolerance)
    except Difference as found:
        raise VerificationFailed(str(found)) from None
    return Verification(PASSED, rows, difference, tolerance)


def _expected(model: MlflowModel, example: Any) -> Any:
    try:
        return model.reference(example)
    # Whatever the model's own library raises: a user must not get its traceback for an answer.
    except Exception as error:
        raise VerificationFailed(
            f"mlflow.pyfunc itself fails on it ({first_line(error)}); log the model with an example that it answers, "
            "or deploy it with -C verify=off"
        ) from error
