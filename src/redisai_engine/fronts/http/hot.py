"""
The hot routes: which requests skip Starlette, and what an error looks like in the protocol of its path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote_to_bytes

import orjson

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.answers import Headers, HttpAnswer
from redisai_engine.fronts.http.access.calls import Handler
from redisai_engine.fronts.http.access.failures import RETRY_AFTER, status_of, text_of
from redisai_engine.fronts.http.scoring.answers import error_json
from redisai_engine.fronts.http.scoring.invocations import invocations
from redisai_engine.fronts.http.v2.inference import infer
from redisai_engine.fronts.http.v2.outputs import VERSION

_SCORING = "/invocations"
_INFER = re.compile(r"/v2/models/(.+?)(?:/versions/([^/]+))?/infer\Z")
#: What `find` knows, as routes are written elsewhere.
HOT_PATHS = (
    ("POST", "/v2/models/{name}/infer"),
    ("POST", "/v2/models/{name}/versions/{version}/infer"),
    ("POST", "/invocations"),
    ("POST", "/invocations/{name}"),
)


@dataclass(frozen=True)
class HotRoute:
    """What a path stands for: the handler, and the deployment and version that it names."""

    handler: Handler
    name: bytes
    version: str

    @cached_property
    def is_infer(self) -> bool:
        """Whether it runs a model in V2's protocol, in a version that there is."""
        return self.handler is infer and self.version in ("", VERSION)

    @cached_property
    def shown(self) -> bytes:
        return _shown(self.name)


def _shown(name: bytes) -> bytes:
    return quote(name, safe="/:@").encode()


def paths_of(name: bytes) -> tuple[bytes, bytes]:
    """Return the paths at which most clients ask a deployment for predictions."""
    shown = _shown(name)
    return b"/v2/models/%b/infer" % shown, b"%b/%b" % (_SCORING.encode(), shown)


def find(path: str) -> HotRoute | None:
    """Return the hot route of a path as it was sent (percent-encoded), or None."""
    if path.startswith(_SCORING):
        return HotRoute(invocations, unquote_to_bytes(path[len(_SCORING) + 1 :]), "") if _is_scoring(path) else None
    match = _INFER.match(path)
    if match is not None:
        return HotRoute(infer, unquote_to_bytes(match[1]), match[2] or "")
    return None


def _is_scoring(path: str) -> bool:
    return path[len(_SCORING) : len(_SCORING) + 1] in ("", "/")


def failed(path: str, error: EngineError) -> HttpAnswer:
    """Return the answer to a request that failed, as the protocol of its path has it."""
    status = status_of(error)
    headers: Headers = []
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="redis", charset="UTF-8"'))
    if status == 503:
        headers.append((b"retry-after", RETRY_AFTER))
    text = _clean(text_of(error))
    if not path.startswith(_SCORING):
        return HttpAnswer(orjson.dumps({"error": text}), status, headers=headers)
    if status == 415:  # in words alone, as MLflow has it
        return HttpAnswer(text.encode(), status, b"text/plain; charset=utf-8", headers)
    return HttpAnswer(error_json(status, text), status, headers=headers)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
