"""The parsers' targets: each takes bytes, and raises if it finds a fault. Corpora are folders of their names."""

from __future__ import annotations

from pathlib import Path

from fuzz import http, stored, values, wire, workers
from fuzz.limits import Check

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 4096  # of an input; a target may repeat a part of it

TARGETS: dict[str, Check] = {
    "requests": wire.requests,
    "inline": wire.inline_requests,
    "replies": wire.replies,
    "worker-frames": workers.frames,
    "tensors": stored.tensors,
    "tensor-words": stored.tensor_words,
    "metadata": stored.metadata,
    "dumps": stored.dumps,
    "compressed": stored.compressed,
    "documents": values.documents,
    "records": values.records,
    "deployments": values.deployments,
    "answers": values.decoded,
    "foreign-models": values.foreign_models,
    "v2-requests": http.v2_requests,
    "invocations": http.invocations,
    "http-heads": http.heads,
}


def corpus(target: str) -> list[Path]:
    """Return the files of the repository's corpus: seeds, and inputs that found something."""
    return sorted((CORPUS / target).iterdir())
