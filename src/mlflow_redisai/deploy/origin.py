"""
Where a model comes from: the version that an alias or stage of the registry means now, and its run.

Invariant: what is found here never keeps a model from being deployed. What MLflow doesn't tell stays unknown.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_SCHEME = "models:/"


@dataclass(frozen=True)
class Origin:
    """
    The model that a URI means. `pinned` is a URI of exactly that: what is fetched is what was found.

    `version` and `run_id` are None where MLflow knows none.
    """

    pinned: str
    version: str | None = None
    run_id: str | None = None


def origin_of(model_uri: str) -> Origin:
    """Ask MLflow's registry about a models:/ URI. Of any other nothing is asked."""
    if model_uri.startswith(_SCHEME):
        with suppress(Exception):  # the registry may be of any kind; opening the model tells what is wrong
            return _registered(model_uri)
    return Origin(model_uri)


def _registered(model_uri: str) -> Origin:
    from mlflow import MlflowClient
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    client = MlflowClient()
    found: tuple[Any, ...] = get_model_name_and_version(client, model_uri)  # type: ignore[no-untyped-call]
    if len(found) == 1:  # models:/m-..., which is of no version
        return Origin(model_uri, run_id=_text(client.get_logged_model(found[0]).source_run_id))
    name, version = found
    return Origin(f"{_SCHEME}{name}/{version}", _text(version), _text(client.get_model_version(name, version).run_id))


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None
