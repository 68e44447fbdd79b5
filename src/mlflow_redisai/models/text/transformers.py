"""
The flavor transformers: pipelines that take text and run an encoder.

Tensors can hold the answers of two tasks: text-classification (a frame with label and score, or with top_k a frame
of such pairs) and feature-extraction
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
from mlflow_redisai.models.text.options import logged_options, refuse_others, refuse_outputs, refused
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
    refuse_outputs(request, what)
    pipeline = _load(model, what)
    options = _options(model, pipeline)
    task = make(pipeline, options, what)
    cutting = _cutting(options, what)
    reader = text.reader(
        model,
        what,
        pipeline.tokenizer,
        lambda texts: _features(pipeline, texts, cutting),
        _text(pipeline, task, cutting),
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


def _options(model: MlflowModel, pipeline: Any) -> dict[str, Any]:
    """Return the options that pyfunc calls the pipeline with, and those that the pipeline itself keeps."""
    kept = {**pipeline._preprocess_params, **pipeline._forward_params, **pipeline._postprocess_params}
    kept.pop("_legacy", None)
    return {**kept, **logged_options(model)}


def _cutting(options: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the options for the tokenizer on texts that are too long."""
    if options.get("truncation", True) not in (True, False, None, "longest_first"):
        raise refused(what, "truncation", options["truncation"], "True, False or 'longest_first'")
    if options.get("padding", False) not in (True, False, "longest"):
        raise refused(what, "padding", options["padding"], "True, False or 'longest'")
    return {name: options[name] for name in ("truncation", "max_length") if options.get(name) is not None}


def _features(pipeline: Any, texts: list[str], cutting: dict[str, Any]) -> dict[str, Any]:
    return dict(pipeline.tokenizer(texts, return_tensors="pt", **cutting))


def _text(pipeline: Any, task: PipelineTask, cutting: dict[str, Any]) -> Text:
    """
    Return how texts are read. They are cut only if an option says so, even if the tokenizer would: pyfunc fails on
    longer ones, too.
    """
    limit = getattr(pipeline.model.config, "max_position_embeddings", None) or pipeline.tokenizer.model_max_length
    # The tokenizer cuts to a max_length even without truncation.
    if cutting.get("truncation") or ("truncation" not in cutting and "max_length" in cutting):
        most = cutting.get("max_length", pipeline.tokenizer.model_max_length)
        return Text(max_length=int(min(limit, most)), cut=True, first=task.first_only)
    return Text(max_length=int(limit), cut=False, first=task.first_only)


# -- tasks ----------------------------------------------------------------------------------------

# The options of every task. The last two change nothing but the speed.
_OPTIONS = {
    "truncation": "True, False or 'longest_first'",
    "max_length": "a number",
    "padding": "True, False or 'longest'",
    "batch_size": "any",
    "num_workers": "any",
}


def _feature_extraction(pipeline: Any, options: dict[str, Any], what: str) -> PipelineTask:
    refuse_others(options, _OPTIONS, what)
    return PipelineTask(
        network=lambda features: pipeline.model(**features)[0],
        structure=Structure("tensor", ("vectors",)),
        answer=Answer("ndarray", (Part("vectors", "float64", (-1, int(pipeline.model.config.hidden_size))),)),
        first_only=True,
        notes=("as in MLflow, only the first text is answered, with one vector for each of its tokens",),
    )


def _text_classification(pipeline: Any, options: dict[str, Any], what: str) -> PipelineTask:
    """
    Return the task that answers each text with its most likely label and that label's score.

    With the option `top_k`, even if it is 1, the answer has a column for each place, with a dict of label and score.
    """
    known = {**_OPTIONS, "top_k": "None or a number from 1", "function_to_apply": "'softmax', 'sigmoid' or 'none'"}
    refuse_others(options, known, what)
    scores_of = _scores(pipeline, options, what)
    labels = tuple(str(pipeline.model.config.id2label[index]) for index in range(pipeline.model.config.num_labels))
    # The pipeline takes any other value than a number or None as if the option weren't there.
    if "top_k" not in options or options["top_k"] == "":
        parts = (Part("label", choices=labels), Part("score", "float64"))
        return _classifying(pipeline, lambda logits: _best(scores_of(logits)), Answer("dataframe", parts))
    asked = len(labels) if options["top_k"] is None else options["top_k"]
    if type(asked) is not int or asked < 1:
        raise refused(what, "top_k", asked, "None or a number from 1")
    count = min(asked, len(labels))
    parts = (Part("label", choices=labels), Part("score", "float64"))
    return _classifying(pipeline, lambda logits: _ranking(scores_of(logits), count), Answer("ranking", parts))


def _classifying(pipeline: Any, of_logits: Callable[[Any], Any], answer: Answer) -> PipelineTask:
    return PipelineTask(
        network=lambda features: of_logits(pipeline.model(**features).logits),
        structure=Structure("list", ("label", "score")),
        answer=answer,
    )


def _best(scores: Any) -> Any:
    best = scores.max(dim=-1)
    return best.indices, best.values


def _ranking(scores: Any, count: int) -> Any:
    ranked = scores.topk(count, dim=-1)
    return ranked.indices, ranked.values


def _scores(pipeline: Any, options: dict[str, Any], what: str) -> Callable[[Any], Any]:
    """Return the function from logits to scores, chosen as transformers' own TextClassificationPipeline does."""
    torch, config = untyped_torch(), pipeline.model.config
    functions: dict[str, Callable[[Any], Any]] = {
        "softmax": lambda logits: torch.softmax(logits, dim=-1),
        "sigmoid": torch.sigmoid,
        "none": lambda logits: logits,
    }
    asked = options.get("function_to_apply")
    if asked is not None:
        # The pipeline keeps a member of an enumeration with these names.
        name = str(getattr(asked, "value", asked)).lower()
        if name not in functions:
            raise refused(what, "function_to_apply", asked, "'softmax', 'sigmoid' or 'none'")
        return functions[name]
    if config.problem_type == "regression":
        return functions["none"]
    return functions["sigmoid" if config.problem_type == _SEVERAL or config.num_labels == 1 else "softmax"]


_SEVERAL = "multi_label_classification"

_TASKS: dict[str, Callable[[Any, dict[str, Any], str], PipelineTask]] = {
    "feature-extraction": _feature_extraction,
    "text-classification": _text_classification,
}
