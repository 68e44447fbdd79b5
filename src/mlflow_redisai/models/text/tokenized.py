"""
Shared parts of the converters of text models: the tokenizer as JSON, texts for trials, and the network over tokens.

Invariant: a model is refused here unless the client makes exactly the tokens that the model's own library makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import Reference
from mlflow_redisai.models.signature import schema_of
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.torch.call import ModuleCall, untyped_torch
from mlflow_redisai.models.torch.export import TorchExport, export, runner
from mlflow_redisai.models.torch.torchscript import Source
from mlflow_redisai.models.torch.trial import Trial
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Schema, Text
from redisai_engine.codec.prediction import predict
from redisai_engine.codec.tokens import TENSORS, Tokenizer
from redisai_engine.protocol import dtypes

# Texts for trials: short, empty, in several scripts, with spaces at the ends, and longer than most models read.
TEXTS = (
    "Redis keeps its data in memory.",
    "a",
    "  Embeddings of similar sentences lie near each other,\tothers lie far apart.  ",
    "¿Dónde está la biblioteca? Где библиотека? 図書館はどこですか",
    "UPPER, lower, 12345.67 and e-mail@example.org!",
    "",
    "one two three four five six seven eight nine ten " * 100,
)

Features = Callable[[list[str]], dict[str, Any]]


@dataclass(frozen=True)
class Reader:
    """
    A model's tokenizer as the client will run it.

    `tokens` is a mapping that can only encode, and `tokenizer` does its work. `features` returns what the model's own
    library makes of texts, by name; `constants` are those of these values that aren't tensors.
    """

    what: str
    tokens: Mapping
    tokenizer: Tokenizer
    text: Text
    features: Features
    constants: dict[str, Any]

    def texts(self) -> list[str]:
        """Return the texts for trials that the model accepts: not those too long for it, if it doesn't cut them."""
        return [text for text in TEXTS if self._fits(text)]

    def _fits(self, text: str) -> bool:
        try:
            self.tokenizer.tokenize([text])
        except InputMismatch:
            return False
        return True


def reader(model: MlflowModel, what: str, tokenizer: Any, features: Features, text: Text) -> Reader:
    """
    Build the Reader of a model. `text` lacks only what the tokenizer itself determines.

    Raise NotConvertible if the client can't make the model's tokens.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise NotConvertible(
            f"{what} has the tokenizer {type(tokenizer).__name__}, which can't be stored as JSON; use its fast variant"
        )
    made = features([TEXTS[0]])
    torch = untyped_torch()
    names = [name for name, value in made.items() if isinstance(value, torch.Tensor)]
    unknown = [name for name in names if name not in TENSORS]
    if unknown:
        raise NotConvertible(f"{what} takes {', '.join(unknown)}; a text model can take only {', '.join(TENSORS)}")
    text = replace(text, tokenizer=fast.to_str(), padding=int(tokenizer.pad_token_id or 0), tensors=tuple(names))
    constants = {name: value for name, value in made.items() if name not in names}
    inputs = tuple(Input(name, dtypes.INT64, (None, None), (0,)) for name in names)
    tokens = Mapping(inputs, (), (), Answer("list", ()), _schema(model, what), text=text)
    found = Reader(what, tokens, Tokenizer(text), text, features, constants)
    _check_tokens(found)
    return found


def _schema(model: MlflowModel, what: str) -> Schema:
    """Return the model's schema, one column of text under any name. Without a signature, it is MLflow's own default."""
    schema = schema_of(model.input_schema) or Schema("columns", (Field(None, "string", dtypes.STRING),))
    if schema.kind != "columns" or len(schema.fields) != 1 or not schema.fields[0].dtype.is_string:
        raise NotConvertible(
            f"{what} has a signature that is not one column of text; log it with input_example=['some text']"
        )
    return schema


def _check_tokens(found: Reader) -> None:
    """Raise NotConvertible unless the client makes the same tokens as the model's own library."""
    for text in found.texts():
        expected = found.features([found.text.prefix + text])
        actual = found.tokenizer.tokenize([text])
        for name, array in zip(found.text.tensors, actual, strict=True):
            if not np.array_equal(expected[name].numpy(), array):
                raise NotConvertible(
                    f"{found.what} makes other tokens ({name}) of {text[:40]!r} than its tokenizer does alone, so a "
                    "client can't make them"
                )


def check_answers(reference: Reference, deployable: Deployable, found: Reader) -> None:
    """Raise NotConvertible if tokens, network and mapping together don't give the reference's answer to the texts."""
    run = runner(deployable.blob, deployable.mapping.fetch, deployable.backend, found.what)
    for texts in (found.texts()[:1], found.texts()):
        try:
            inputs = _as_signature(texts, found.tokens.schema)
            actual, _ = predict(run, deployable.mapping, inputs)
            compare(_answer(reference, inputs, found.what), actual, tolerance_of(deployable.mapping))
        except Difference as difference:
            raise NotConvertible(f"{found.what} answers differently after conversion: {difference}") from difference


def _as_signature(texts: list[str], schema: Schema | None) -> Any:
    """Return texts in the form that pyfunc takes: a list, or a frame if the signature names its column."""
    if schema is None or not schema.named:
        return texts
    import pandas as pd

    return pd.DataFrame({schema.names()[0]: texts})


def _answer(reference: Reference, inputs: Any, what: str) -> Any:
    try:
        return reference.answer(inputs)
    # For instance, a pipeline refuses a column whose name it doesn't know.
    except Exception as error:
        raise NotConvertible(
            f"{what} fails on text in the form that its signature asks for: {first_line(error)}; "
            "log it with input_example=['some text']"
        ) from error


def export_network(
    found: Reader, network: Callable[[dict[str, Any]], Any], parts: Any, structure: Structure, request: Request
) -> TorchExport:
    """Convert `network`, a function of the features by name. `parts` is the torch module that holds its weights."""
    inputs = found.tokens.inputs
    call = ModuleCall(found.what, _module(found, network, parts), inputs, None, (None,) * len(inputs))
    return export(Source(call, structure), _trials(found, call, structure), request)


def _module(found: Reader, network: Callable[[dict[str, Any]], Any], parts: Any) -> Any:
    base: Any = untyped_torch().nn.Module

    class OnTokens(base):  # type: ignore[misc]  # a base without types
        def __init__(self) -> None:
            super().__init__()
            self.parts = parts

        def forward(self, *tensors: Any) -> Any:
            return network({**found.constants, **dict(zip(found.text.tensors, tensors, strict=True))})

    return OnTokens().eval()


def _trials(found: Reader, call: ModuleCall, structure: Structure) -> Sequence[Trial]:
    texts = found.texts()
    groups = (texts[:3], texts[1:2], texts, texts[:5] * 4)
    # The network must be right for several texts, even if the task answers only the first.
    tokenizer = Tokenizer(replace(found.text, first=False))
    arrays = [tokenizer.tokenize(group) for group in groups]
    return [Trial(each, call.run(each, structure)) for each in arrays]
