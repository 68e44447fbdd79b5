"""
Three data sets, and the rows that a trained model is asked.

- real: numbers of different sizes, among them some that no float32 holds
- mixed: numbers with gaps, integers, booleans and text
- ties: small integers, many rows alike

Invariant: the same name and seed make the same rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from census.rows import Question

TRAINING, FRESH = 160, 1000
NAMES = ("real", "mixed", "ties")
GAPPY, TEXTS = ("a", "b"), ("city", "size")
_CITIES, _SIZES = ("Bonn", "Köln", "Ulm"), ("L", "M", "S", "XL")


@dataclass(frozen=True)
class Data:
    """Rows to train on. `labels` are classes, `numbers` a target for regression, `counts` a target of counts."""

    name: str
    frame: pd.DataFrame
    labels: Any
    numbers: Any
    random: np.random.Generator

    @property
    def counts(self) -> Any:
        return np.floor(np.abs(self.numbers)).astype(np.int64)


def made(name: str, seed: int) -> Data:
    """Return the data set of that name."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    frame = {"real": _real, "mixed": _mixed, "ties": _ties}[name](random)
    score = _score(frame)
    noisy = score + random.normal(0, 0.3, len(score))
    return Data(name, frame, _labels(name, noisy), noisy * 3 + 1, random)


def _real(random: np.random.Generator) -> pd.DataFrame:
    sizes = {"a": 1.0, "b": 100.0, "c": 1e-3, "d": 30_000.0}
    columns = {name: random.normal(size, size, TRAINING) for name, size in sizes.items()}
    return pd.DataFrame(columns)


def _mixed(random: np.random.Generator) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "a": random.normal(0, 1, TRAINING),
            "b": random.gamma(2, 10, TRAINING).round(1),
            "n": random.integers(0, 50, TRAINING),
            "flag": random.random(TRAINING) < 0.4,
            "city": random.choice(_CITIES, TRAINING),
            "size": random.choice(_SIZES, TRAINING),
        }
    )
    for name in GAPPY:
        frame[name] = frame[name].where(random.random(TRAINING) > 0.15)
    return frame


def _ties(random: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame({name: random.integers(0, 4, TRAINING) for name in ("k", "l", "m")})


def _score(frame: pd.DataFrame) -> Any:
    """Return a number for every row, of mean 0 and deviation 1, to which all columns contribute."""
    ranks = [pd.Series(pd.factorize(frame[name], sort=True)[0]).rank(pct=True) for name in frame.columns]
    score = sum((-1) ** index * rank + rank**2 for index, rank in enumerate(ranks))
    return ((score - score.mean()) / score.std()).to_numpy()


def _labels(name: str, score: Any) -> Any:
    if name == "real":
        return np.digitize(score, [-0.5, 0.5])
    return np.where(score > 0, "yes", "no") if name == "mixed" else (score > 0.2).astype(np.int64)


# -- questions ------------------------------------------------------------------------------------


def questions(train: pd.DataFrame, random: np.random.Generator) -> tuple[Question, ...]:
    """Return the training rows, a thousand fresh rows, rows at the edges, and rows one by one that may be refused."""
    return (
        Question("training rows", train),
        Question("fresh rows", fresh(train, random)),
        Question("rows between and beside training rows", beside(train, random)),
        *(Question(name, rows) for name, rows in _alone(train)),
    )


def fresh(train: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Return rows of values seen in training in new combinations, and of numbers in the range of the training."""
    return pd.DataFrame({name: _drawn(train[name], random, FRESH) for name in train.columns})


def _drawn(column: pd.Series[Any], random: np.random.Generator, count: int) -> Any:
    seen = column.to_numpy()[random.integers(0, len(column), count)]
    if column.dtype.kind != "f":
        return seen
    low, high = column.min(), column.max()
    anew = random.uniform(low - (high - low) / 4, high + (high - low) / 4, count)
    return np.where((random.random(count) < 0.7) & np.isfinite(seen), anew, seen)


def beside(train: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Return training rows with numbers halfway to the next greater one, where trees split, and one step beside it."""
    rows = train.iloc[random.integers(0, len(train), FRESH // 2)].reset_index(drop=True)
    for name in rows.columns:
        if rows[name].dtype.kind == "f":
            rows[name] = _edge(train[name].to_numpy(), rows[name].to_numpy(), random)
    return rows


def _edge(known: Any, values: Any, random: np.random.Generator) -> Any:
    known = np.unique(known[np.isfinite(known)])
    after = known[np.minimum(np.searchsorted(known, values, side="right"), len(known) - 1)]
    middle = values / 2 + after / 2
    choices = [values, middle, np.float32(middle), np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)]
    choices += [np.float32(values), np.nextafter(values, np.inf), np.nextafter(values, -np.inf)]
    return np.choose(random.integers(0, len(choices), len(values)), choices)


#: Single values that a model may refuse, by the kind of the column. Every one replaces a value of a training row.
_ODD: dict[str, dict[str, Any]] = {
    "f": {
        "a gap": np.nan,
        "infinity": np.inf,
        "minus infinity": -np.inf,
        "1e300": 1e300,
        "a subnormal number": 5e-324,
        "minus zero": -0.0,
        "2**24+1": float(2**24 + 1),
    },
    "i": {"a large integer": 2**53 + 1, "a negative integer": -7, "zero": 0},
    "O": {"an unknown category": "Zürich", "empty text": "", "None": None, "long text": "x" * 300},
}


def _alone(train: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield rows in which a single value is odd: one of each kind for each column, up to three columns of a kind."""
    complete = train.dropna().iloc[:1]
    seen: dict[str, int] = {}
    for name in train.columns:
        kind = train[name].dtype.kind if train[name].dtype != "str" else "O"
        seen[kind] = seen.get(kind, 0) + 1
        for odd, value in _ODD.get(kind, {}).items() if seen[kind] < 3 else ():
            row = complete.reset_index(drop=True).astype({name: object}) if value is None else complete.copy()
            row[name] = [value]
            yield f"{odd} in {name!r}", row
