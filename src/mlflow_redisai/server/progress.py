"""
The bar that a user watches while a large model is on its way. What counts as large, and the bytes, are `connection`'s.

Invariant: nothing is written unless stderr is a terminal, and a bar whose work failed is gone before its error is told.
MLflow's own switch for its bars, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, turns this one off too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

NAME_LENGTH = 40  # of a deployment's name; a bar has one line of a terminal


@contextlib.contextmanager
def upload(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar for the length of the block; yield the function to call with every number of bytes that were sent."""
    if not _wanted():
        yield int
        return
    from tqdm import tqdm

    with tqdm(desc=f"Uploading {what}", total=total, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as bar:
        yield bar.update
        bar.leave = True


def shown(name: str) -> str:
    """Return a name as it fits one line of a terminal: any bytes can be a deployment's name."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:NAME_LENGTH])


def _wanted() -> bool:
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR as MLFLOWS

    return sys.stderr is not None and sys.stderr.isatty() and MLFLOWS.get() is True  # type: ignore[no-untyped-call]
