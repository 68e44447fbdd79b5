"""
The JSON file behind `mlflow deployments predict -I FILE`.

MLflow's command reads the file with pandas.read_json before the plugin sees anything. That turns "001" into 1, for
instance, and can't be undone, so the file is read again, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.fields import is_frame


def document_of(inputs: Any) -> Document | None:
    """Return the document that the running command has read into the frame `inputs`; None outside that command."""
    # click is there only if a command line was parsed; nearly every prediction ends here or a little below.
    click = sys.modules.get("click")
    if click is None or not is_frame(inputs):
        return None
    context = click.get_current_context(silent=True)
    callback = None if context is None else getattr(context.command, "callback", None)
    if getattr(callback, "__module__", None) != "mlflow.deployments.cli":
        return None
    path = context.params.get("input_path")
    # Not a pipe or a URL: what was read there is gone, or would be fetched twice.
    return _read(path) if isinstance(path, str) and os.path.isfile(path) else None


def _read(path: str) -> Document | None:
    try:
        with open(path, encoding="utf-8") as file:
            return Document(json.load(file))
    except (OSError, ValueError):
        # Compressed, or in a form that only pandas reads; its frame is used as it is.
        return None
