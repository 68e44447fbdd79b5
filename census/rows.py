"""
What the census is made of. A row is one model, a family is a function that lists rows.

Invariant: a row's name and the seed determine the model, its training data and the rows that it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """
    One model of the census.

    `subject` is an estimator, an objective or a layer, `change` what differs from its defaults, `within` what stands
    around it, `data` the data set, and `method` what pyfunc calls.
    """

    family: str
    subject: str
    change: str = "defaults"
    within: str = "alone"
    data: str = "real"
    method: str = "predict"

    @property
    def name(self) -> str:
        return "/".join((self.family, self.subject, self.change, self.within, self.data, self.method))

    @property
    def fit(self) -> tuple[str, ...]:
        """What determines the fitted model. Rows that share it differ only in the method."""
        return (self.family, self.subject, self.change, self.within, self.data)


@dataclass(frozen=True)
class Question:
    """Rows to predict. `name` says what is special about them. `amplifies`: of a network, see `census.rounding`."""

    name: str
    inputs: Any
    amplifies: bool = False


@dataclass(frozen=True)
class Trained:
    """
    A trained model, ready to be saved and asked.

    `save` writes it with MLflow into a folder, to be called by pyfunc with a method. `own` answers in place of pyfunc
    where MLflow can't ask the model (XGBoost's categories). None stands for pyfunc.
    """

    flavor: str
    save: Callable[[Path, str], Any]
    questions: tuple[Question, ...]
    own: Callable[[Any], Any] | None = None


class CannotTrain(Exception):
    """The library itself can't train this combination, or it lacks the method: such a row says nothing about us."""


@dataclass(frozen=True)
class Family:
    """Models of one library. `rows` lists them without training any; `train` trains one."""

    name: str
    rows: Callable[[], Iterable[Row]]
    train: Callable[[Row, int], Trained]


def shown(value: Any) -> str:
    """Return a value as part of a row's name: short, and the same in every process."""
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if hasattr(value, "get_params"):
        return type(value).__name__
    return "".join("_" if sign in "/ \n" else sign for sign in repr(value))[:60]
