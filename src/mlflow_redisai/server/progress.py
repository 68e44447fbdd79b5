"""
The progress bar for the upload of a large model. `connection` decides what is large and counts the bytes.

MLflow's own switch for progress bars, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, turns this one off too.

Invariant: nothing is written unless stderr is a terminal. If the upload fails, the bar is gone before the error shows.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

NAME_LENGTH = 40  # letters of a deployment's name; a bar must fit on one line


@contextlib.contextmanager
def upload(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar for the duration of the block. Yield the function to call with each number of bytes sent."""
    if not _wanted():
        yield int
        return
    from tqdm import tqdm

    with tqdm(desc=f"Uploading {what}", total=total, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as bar:
        yield bar.update
        bar.leave = True


def shown(name: str) -> str:
    """Return a deployment's name in a form that fits on one line of a terminal. A name may contain any bytes."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:NAME_LENGTH])


def _wanted() -> bool:
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR as MLFLOWS

    return sys.stderr is not None and sys.stderr.isatty() and MLFLOWS.get() is True  # type: ignore[no-untyped-call]
