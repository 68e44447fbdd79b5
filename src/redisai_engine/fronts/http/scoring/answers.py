"""What `mlflow models serve` writes: predictions as JSON, and errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson

from redisai_engine.codec.answers import plain

_OPTIONS = orjson.OPT_NON_STR_KEYS
#: MLflow's error codes by status.
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "BAD_REQUEST",
    413: "BAD_REQUEST",
    415: "BAD_REQUEST",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "TEMPORARILY_UNAVAILABLE",
}


def predictions_json(answer: Any, *, is_bare: bool) -> bytes:
    """Return the body of an answer. Numbers that JSON lacks are null."""
    value = _values(answer)
    document = value if is_bare else {"predictions": value}
    try:
        return orjson.dumps(document, option=_OPTIONS)
    except TypeError:  # what only the codec knows how to write, such as text that isn't UTF-8
        return json.dumps(plain(document)).encode()


def _values(answer: Any) -> Any:
    if isinstance(answer, np.ndarray):
        return answer.tolist()
    if hasattr(answer, "columns"):
        return answer.to_dict(orient="records")
    if isinstance(answer, dict):
        return {key: _values(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [_values(value) for value in answer]
    return answer


def error_json(status: int, text: str) -> bytes:
    """Return the body of an error, without a stack trace."""
    return orjson.dumps({"error_code": _CODES.get(status, "INTERNAL_ERROR"), "message": text})
