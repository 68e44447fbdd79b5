"""
The flavor transformers: pipelines that take text and run an encoder.

Tensors can hold the answers of two tasks: text-classification (a frame with label and score) and feature-extraction
(the vectors of the tokens; as in MLflow, of the first text only). Pipelines that generate text, or that search a text
for an answer, run Python for each token or answer, which no graph can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import pyfunc_reference
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.text import tokenized as text
from mlflow_redisai.models.torch.call import untyped_torch
from redisai_engine.codec.mapping import Answer, Part, Text


@dataclass(frozen=True)
class PipelineTask:
    """
    The conversion of one pipeline task: the network, the structure of its output, the answer, and notes for the user.

    `network` is a function of the features by name. `first_only`: only the first text is answered.
    """

    network: Callable[[dict[str, Any]], Any]
    structure: Structure
    answer: Answer
    first_only: bool = False
    notes: tuple[str, ...] = ()


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a pipeline. Raise NotConvertible or MissingConverter."""
    what = f"the transformers model {model.uri}"
    make = _TASKS.get(_task(model))
    if make is None:
        raise NotConvertible(
            f"{what} has the task {_task(model)}; supported are {', '.join(_TASKS)}, and any PyTorch module over "
            "token ids if it is logged with mlflow.pytorch"
        )
    pipeline = _load(model, what)
    task = make(pipeline)
    reader = text.reader(
        model, what, pipeline.tokenizer, lambda texts: _features(pipeline, texts), _text(pipeline, task)
    )
    exported = text.export_network(reader, task.network, pipeline.model, task.structure, request)
    mapping = replace(exported.mapping, answer=task.answer, schema=reader.tokens.schema, text=reader.text)
    notes = (*exported.notes, *task.notes)
    reference = pyfunc_reference(model)
    deployable = Deployable("transformers", request.backend, exported.blob, mapping, reference, notes=notes)
    text.check_answers(reference, deployable, reader)
    return deployable


def _task(model: MlflowModel) -> str:
    return str(model.configuration("transformers").get("task"))


def _load(model: MlflowModel, what: str) -> Any:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingConverter("transformers", "transformers", "transformers") from error
    import mlflow.transformers

    try:
        pipeline = mlflow.transformers.load_model(str(model.path), device="cpu")
    except Exception as error:
        raise NotConvertible(f"{what} can't be loaded: {first_line(error)}") from error
    pipeline.model.eval()
    return pipeline


def _features(pipeline: Any, texts: list[str]) -> dict[str, Any]:
    return dict(pipeline.tokenizer(texts, return_tensors="pt"))


def _text(pipeline: Any, task: PipelineTask) -> Text:
    """Return how texts are read. They are never cut, even if the tokenizer would: pyfunc fails on longer ones, too."""
    limit = getattr(pipeline.model.config, "max_position_embeddings", None) or pipeline.tokenizer.model_max_length
    return Text(max_length=int(limit), cut=False, first=task.first_only)


# -- tasks ----------------------------------------------------------------------------------------


def _feature_extraction(pipeline: Any) -> PipelineTask:
    return PipelineTask(
        network=lambda features: pipeline.model(**features)[0],
        structure=Structure("tensor", ("vectors",)),
        answer=Answer("ndarray", (Part("vectors", "float64", (-1, int(pipeline.model.config.hidden_size))),)),
        first_only=True,
        notes=("as in MLflow, only the first text is answered, with one vector for each of its tokens",),
    )


def _text_classification(pipeline: Any) -> PipelineTask:
    """Return the task that answers each text with its most likely label and that label's score."""
    config = pipeline.model.config
    torch = untyped_torch()
    # The rule of transformers' own TextClassificationPipeline.
    exclusive = config.num_labels > 1 and config.problem_type != "multi_label_classification"

    def network(features: dict[str, Any]) -> Any:
        logits = pipeline.model(**features).logits
        scores = torch.softmax(logits, dim=-1) if exclusive else torch.sigmoid(logits)
        best = scores.max(dim=-1)
        return best.indices, best.values

    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return PipelineTask(
        network=network,
        structure=Structure("list", ("label", "score")),
        answer=Answer("dataframe", (Part("label", choices=labels), Part("score", "float64"))),
    )


_TASKS: dict[str, Callable[[Any], PipelineTask]] = {
    "feature-extraction": _feature_extraction,
    "text-classification": _text_classification,
}
