"""
Writes docs/flavors.md from the table of flavors in the source and from what the tests have seen (docs/flavors.json).

    RECORD_FLAVORS=1 scripts/test tests/mlflow_redisai/models     # measures, writes docs/flavors.json
    scripts/flavors                                               # writes the page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow_redisai.models.registry import FLAVORS, REFUSED, Flavor

DOCUMENTS = Path(__file__).parent.parent / "docs"
SEEN = DOCUMENTS / "flavors.json"
PAGE = DOCUMENTS / "flavors.md"

_HEAD = """# Flavors

<!-- Written by scripts/flavors from the tables in the source: change those, not this page. -->

What of MLflow's flavors can be deployed, and how. A model that has several is deployed as the first of this table that
it has, unless you name one (`-f`). With `backend=auto` the backends are tried from left to right; the reply, and `get`,
say why another than the first was taken.

Whatever a conversion gives is run on this machine and, once stored, on the server, and must answer as the model itself
does.
"""

_SEEN = """## Tested with

The largest difference is between numbers of a deployed model and of `mlflow.pyfunc`, relative to the largest number of
the answer, over all models and all held-out rows of the tests. Labels (text, integers, truth values) are always equal.
`scripts/test --matrix` tests `onnx`, `sklearn`, `xgboost` and `lightgbm` with MLflow 2.15 and 2.22, too.
"""

_REFUSED = """## Not deployable

These are refused at once, with the reason. Every MLflow model has `python_function` beside its own flavor; it is looked
at last.
"""


def page() -> str:
    """The page, in Markdown."""
    seen: dict[str, Any] = json.loads(SEEN.read_text())
    return "\n".join(
        [
            _HEAD,
            *_table(("Flavor", "Backends", "How", "Not", "Extra"), [_told(row) for row in FLAVORS.values()]),
            "",
            _SEEN,
            *_table(("Flavor", "Largest difference", "Versions"), [_tested(name, seen[name]) for name in FLAVORS]),
            "",
            _REFUSED,
            *_table(("Flavor", "Why, and what works"), [(f"`{name}`", reason) for name, reason in REFUSED.items()]),
            "",
        ]
    )


def _told(row: Flavor) -> tuple[str, ...]:
    only = [f"{backend} if named" for backend in row.on_request]
    extra = "" if row.extra is None else f"`{row.extra}`"
    return f"`{row.name}`", ", ".join([*row.backends, *only]), row.how, row.limits, extra


def _tested(name: str, seen: dict[str, Any]) -> tuple[str, ...]:
    # What follows a plus is the build, not the version.
    versions = ", ".join(f"{package} {version.partition('+')[0]}" for package, version in seen["versions"].items())
    return f"`{name}`", f"{seen['difference']:.1e}" if seen["difference"] else "none", versions


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in ([*head], ["---"] * len(head), *escaped)]


if __name__ == "__main__":
    PAGE.write_text(page())
