"""
The JSON file of `mlflow deployments predict -I FILE`.

MLflow's command reads the file with pandas.read_json before it calls the plugin. That turns "001" into 1, for instance,
and can't be undone. So the file is read a second time, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.fields import is_frame


def document_of(inputs: Any) -> Document | None:
    """Return the document that the running command read into the frame `inputs`, or None outside that command."""
    # click is imported only if a command line was parsed. Nearly all predictions return here or a few lines below.
    click = sys.modules.get("click")
    if click is None or not is_frame(inputs):
        return None
    context = click.get_current_context(silent=True)
    callback = None if context is None else getattr(context.command, "callback", None)
    if getattr(callback, "__module__", None) != "mlflow.deployments.cli":
        return None
    path = context.params.get("input_path")
    # Not a pipe, whose content is gone, nor a URL, which would be fetched twice.
    return _read(path) if isinstance(path, str) and os.path.isfile(path) else None


def _read(path: str) -> Document | None:
    try:
        with open(path, encoding="utf-8") as file:
            return Document(json.load(file))
    except (OSError, ValueError):
        # Compressed, or in a form that only pandas reads. Its frame is used then.
        return None
