"""
The flavor sentence_transformers: text in, embeddings out.

The whole model, including pooling and normalisation, becomes one graph over tokens. The client tokenizes with the
model's own tokenizer, which is kept in the record. The answer is pyfunc's: an array with one row for each text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import pyfunc_reference
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.text import tokenized as text
from redisai_engine.codec.mapping import Answer, Part, Text

_STRUCTURE = Structure("tensor", ("embedding",))


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a SentenceTransformer. Raise NotConvertible or MissingConverter."""
    what = f"the sentence-transformers model {model.uri}"
    _refuse_task(model, what)
    embedder = _load(model, what)
    reader = text.reader(model, what, embedder.tokenizer, lambda texts: _features(embedder, texts), _text(embedder))
    exported = text.export_network(
        reader, lambda features: embedder(features)["sentence_embedding"], embedder, _STRUCTURE, request
    )
    answer = Answer("ndarray", (Part("embedding", "float32"),))
    mapping = replace(exported.mapping, answer=answer, schema=reader.tokens.schema, text=reader.text)
    reference = pyfunc_reference(model)
    deployable = Deployable(
        "sentence_transformers", request.backend, exported.blob, mapping, reference, notes=exported.notes
    )
    text.check_answers(reference, deployable, reader)
    return deployable


def _refuse_task(model: MlflowModel, what: str) -> None:
    task = (model.meta.metadata or {}).get("task")
    if task:
        raise NotConvertible(
            f"{what} was logged with task={task!r}, whose answers are JSON documents, not arrays; log it without task"
        )


def _load(model: MlflowModel, what: str) -> Any:
    try:
        import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise MissingConverter("sentence_transformers", "sentence-transformers", "transformers") from error
    import mlflow.sentence_transformers

    try:
        return mlflow.sentence_transformers.load_model(str(model.path)).to("cpu").eval()
    except Exception as error:
        raise NotConvertible(f"{what} can't be loaded: {first_line(error)}") from error


def _features(embedder: Any, texts: list[str]) -> dict[str, Any]:
    """Return the features that the model's own library makes of texts. The method was renamed in version 5."""
    prepare = getattr(embedder, "preprocess", None) or embedder.tokenize
    return dict(prepare(texts))


def _text(embedder: Any) -> Text:
    prompts, default = getattr(embedder, "prompts", {}), getattr(embedder, "default_prompt_name", None)
    limit = embedder.max_seq_length or embedder.tokenizer.model_max_length
    return Text(max_length=int(limit), prefix=prompts[default] if default else "")
