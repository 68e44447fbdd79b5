"""
The answers of an ONNX model itself: from mlflow.pyfunc, or from ONNX Runtime on the file as it was logged.

The deployed graph, which may have other versions, types and outputs than the file, is never asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_redisai.errors import first_line
from mlflow_redisai.models import graph
from mlflow_redisai.models.loading import NOT_RUN, MlflowModel, may_run_code
from mlflow_redisai.models.reference import NoReference, Reference, pyfunc_reference
from redisai_engine.codec.mapping import Mapping, Output
from redisai_engine.codec.prediction import predict
from redisai_engine.protocol.tensor import Tensor


@dataclass(frozen=True)
class Original:
    """
    The file as it was logged, run by ONNX Runtime with the file's own opset, element types and outputs.

    Of the deployed model, only `mapping` is used: how the user's input becomes tensors, and which outputs are wanted in
    which container. `kinds` are the numpy names of the element types of the file's inputs.
    """

    path: Path
    mapping: Mapping
    kinds: dict[str, str]

    @cached_property
    def session(self) -> Any:
        return graph.load(str(self.path), "the original file")

    def answer(self, inputs: Any) -> Any:
        return predict(self._run, self.mapping, inputs)[0]

    def _run(self, tensors: list[Tensor]) -> list[Tensor]:
        feed = {
            item.name: tensor.array().astype(self.kinds[item.name])
            for item, tensor in zip(self.mapping.inputs, tensors, strict=True)
        }
        outputs = [self.mapping.outputs[index] for index in self.mapping.fetch]
        values = self.session.run([output.name for output in outputs], feed)
        return [
            _tensor(value, output, part.labels)
            for value, output, part in zip(values, outputs, self.mapping.answer.parts, strict=True)
        ]


def _tensor(value: Any, output: Output, labels: tuple[int | str, ...]) -> Tensor:
    """Return an output of the file as a tensor: of a ZipMap's dicts the numbers, widened if RedisAI lacks the type."""
    rows = [[row[label] for label in labels] for row in value] if isinstance(value, list) else value
    return Tensor.from_array(np.asarray(rows, None if output.dtype is None else output.dtype.numpy))


def reference_of(
    model: MlflowModel, original: Original, *, chosen: bool
) -> tuple[Reference | NoReference, tuple[str, ...]]:
    """
    Return the reference, and notes for the user.

    It is pyfunc, or the file itself for `chosen` outputs and if pyfunc fails on the input example. If the file fails on
    the example too, there is no reference.
    """
    if not may_run_code():
        return NoReference(NOT_RUN), ()
    refusal = None if chosen else _refusal(pyfunc_reference(model), model.input_example)
    if not chosen and refusal is None:
        return pyfunc_reference(model), ()
    own = Reference("ONNX Runtime on the original file", original.answer)
    problem = _refusal(own, model.input_example)
    if problem is not None:
        return NoReference(f"ONNX Runtime fails on the input example with the original file ({problem})"), ()
    if refusal is None:
        return own, ()
    instead = "the deployed model answers as the original file does"
    return own, (f"mlflow.pyfunc fails on this model's input example ({refusal}); {instead}",)


def _refusal(reference: Reference, example: Any) -> str | None:
    """Return why the example can't be answered, or None. pyfunc can't put outputs of unlike lengths into a frame."""
    if example is None:
        return None
    try:
        reference.answer(example)
    except Exception as error:
        return first_line(error)
    return None
