"""
The flavor sentence_transformers: text in, embeddings out.

The whole model, including pooling and normalisation, becomes one graph over tokens. The client tokenizes with the
model's own tokenizer, which is kept in the record. The answer is pyfunc's: an array with one row for each text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import pyfunc_reference
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.text import tokenized as text
from mlflow_redisai.models.text.options import logged_options, refuse_others, refuse_outputs, refused
from mlflow_redisai.models.torch.call import untyped_torch
from redisai_engine.codec.mapping import Answer, Part, Text

_STRUCTURE = Structure("tensor", ("embedding",))

# The options of encode() that are honoured. The last two change nothing but its speed and its output on the screen.
_OPTIONS = {
    "normalize_embeddings": "True or False",
    "truncate_dim": "a number",
    "prompt_name": "one of the model's",
    "prompt": "text",
    "batch_size": "any",
    "show_progress_bar": "any",
}


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a SentenceTransformer. Raise NotConvertible or MissingConverter."""
    what = f"the sentence-transformers model {model.uri}"
    refuse_outputs(request, what)
    _refuse_task(model, what)
    options = logged_options(model)
    refuse_others(options, _OPTIONS, what)
    embedder = _load(model, what)
    prompt = _prompt(embedder, options, what)
    reader = text.reader(
        model, what, embedder.tokenizer, lambda texts: _features(embedder, texts), _text(embedder, prompt)
    )
    exported = text.export_network(reader, _network(embedder, options), embedder, _STRUCTURE, request)
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


def _prompt(embedder: Any, options: dict[str, Any], what: str) -> str:
    """Return what encode() puts before each text: the prompt, else that of the name, else that of the default name."""
    if options.get("prompt") is not None:
        return str(options["prompt"])
    prompts = getattr(embedder, "prompts", None) or {}
    name = options.get("prompt_name") or getattr(embedder, "default_prompt_name", None)
    if name and name not in prompts:
        raise refused(what, "prompt_name", name, f"one of {', '.join(map(repr, prompts)) or 'none'}")
    return str(prompts[name]) if name else ""


def _network(embedder: Any, options: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """Return the network with what encode() does after it, in its order: cut the vectors, then normalize them."""
    torch = untyped_torch()
    dim = options.get("truncate_dim")
    dim = getattr(embedder, "truncate_dim", None) if dim is None else int(dim)

    def network(features: dict[str, Any]) -> Any:
        vectors = embedder(features)["sentence_embedding"]
        vectors = vectors if dim is None else vectors[..., :dim]
        return torch.nn.functional.normalize(vectors, p=2, dim=1) if options.get("normalize_embeddings") else vectors

    return network


def _text(embedder: Any, prompt: str) -> Text:
    limit = embedder.max_seq_length or embedder.tokenizer.model_max_length
    return Text(max_length=int(limit), prefix=prompt)
