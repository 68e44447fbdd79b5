"""
TorchScript programs → what a server runs, for the backend ONNX or TORCH.

Theory of operation. `torchscript` offers several programs for a module. Each is converted and tried on inputs of
several lengths (`Trial`). The first that loads and answers all of them as the module itself did is used. A module that
was exported for a fixed number of rows is first tried with any number. If its graph doesn't depend on the number, many
rows in one request give the same answers as one by one. Otherwise the number stays fixed, and the plugin splits
requests.

torch's newer ONNX exporter writes opset 18 even if asked for an older one, so the exporter for TorchScript is used.

Invariant: an export that is returned has answered every trial as the module did.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Request
from mlflow_redisai.models.rows import batch_notes
from mlflow_redisai.models.torch import torchscript
from mlflow_redisai.models.torch.call import untyped_torch
from mlflow_redisai.models.torch.symbolics import raising_operators
from mlflow_redisai.models.torch.torchscript import DoubtfulTrace, Source
from mlflow_redisai.models.torch.trial import Trial
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.mapping import Answer, Input, Mapping, Output, Part, Shape
from redisai_engine.codec.onnx_types import free_inputs
from redisai_engine.codec.prediction import Run
from redisai_engine.codec.values import Array
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Tensor

if TYPE_CHECKING:
    import onnx

# A change of the inputs' last bits is one rounding, of which a conversion has several. The most that this allows.
_AMPLIFIED, _MOST = 16, 1e-2

# The newest opset that torch's exporter for TorchScript can write.
_NEWEST_OPSET = 20

# How torch names an operator that ONNX lacks.
_OPERATOR = re.compile(r"[Oo]perator '?(?:aten::|torchvision::)?(\w+)'? to ONNX")


@dataclass(frozen=True)
class TorchExport:
    """A blob that has passed all trials. `mapping` is complete but for the schema and the answer's container."""

    blob: bytes
    mapping: Mapping
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """One conversion to try. `batch` is the fixed number of rows, None for any number."""

    source: Source
    trials: Sequence[Trial]
    request: Request
    batch: int | None

    @property
    def what(self) -> str:
        return self.source.call.what

    def inputs(self) -> tuple[Input, ...]:
        return tuple(
            replace(item, shape=None if item.shape is None else (self.batch, *item.shape[1:]))
            for item in self.source.call.inputs
        )

    def answered(self) -> list[Trial]:
        """Return the trials that the module itself answers. There is at least one."""
        return [trial for trial in self.trials if trial.problem is None]

    def example(self) -> list[Array]:
        """
        Return the arrays to trace with: `batch` rows, or else more than one if any trial has more.

        With a single row, a trace could hide a dependence on the number of rows.
        """
        arrays = max(self.answered(), key=lambda trial: len(trial.arrays[0]) > 1).arrays
        if self.batch is None:
            return arrays
        return [np.resize(array, (self.batch, *array.shape[1:])) for array in arrays]


def export(source: Source, trials: Sequence[Trial], request: Request) -> TorchExport:
    """Convert for `request.backend`. If all attempts fail, raise NotConvertible with the problem of the first one."""
    problems: list[NotConvertible] = []
    for batch in dict.fromkeys((None, source.call.batch)):
        plan = Plan(source, trials, request, batch)
        for make in _ways(plan, problems):
            try:
                return _tried(plan, make())
            except NotConvertible as problem:
                problems.append(problem)
    # The doubt about a trace says more than why the other ways fail.
    raise next((problem for problem in problems if isinstance(problem, DoubtfulTrace)), problems[0])


def runner(blob: bytes, fetch: tuple[int, ...], backend: str, what: str) -> Run:
    """Return a function that runs a blob on this machine as a server would: tensors in, fetched tensors out."""
    return graph.runner(blob, fetch, what) if backend == "ONNX" else torchscript.runner(blob, fetch)


def _ways(plan: Plan, problems: list[NotConvertible]) -> Iterator[Callable[[], Any]]:
    try:
        yield from torchscript.programs(plan.source, plan.example())
    except NotConvertible as problem:
        problems.append(problem)


def _tried(plan: Plan, program: Any) -> TorchExport:
    outputs = _outputs(plan)
    if plan.request.backend == "ONNX":
        proto = _to_onnx(plan, program, outputs)
        graph.cast_foreign_types(proto)
        blob = graph.finish(proto, plan.request.limits, plan.what)
        mapping = _mapping(plan, outputs, graph.depth(proto), graph.precision(proto))
    else:
        blob = torchscript.to_blob(program)
        mapping = _mapping(plan, outputs, torchscript.depth(program), _precision(plan))
    _check(runner(blob, mapping.fetch, plan.request.backend, plan.what), mapping, plan)
    return TorchExport(blob, mapping, _notes(plan.source.call.batch, plan.batch))


def _notes(asked: int | None, batch: int | None) -> tuple[str, ...]:
    if asked is None:
        return ()
    rows = "one row" if asked == 1 else f"{asked} rows"
    if batch is None:
        return (f"the model was logged for exactly {rows} at a time; trials showed that it takes any number",)
    return batch_notes(batch)


# -- inputs and outputs ---------------------------------------------------------------------------


def _outputs(plan: Plan) -> tuple[Output, ...]:
    names = _output_names(plan.source)
    answers = plan.answered()[0].answers
    return tuple(
        Output(name, _dtype(answer, name), shape)
        for name, answer, shape in zip(names, answers, _output_shapes(plan), strict=True)
    )


def _output_names(source: Source) -> list[str]:
    """Return names for the outputs that differ from those of the inputs, as the tensors of a graph must."""
    taken = {item.name for item in source.call.inputs}
    return [f"{name}_output" if name in taken else name for name in source.structure.names]


def _output_shapes(plan: Plan) -> list[Shape]:
    """Return each output's shape, with None for every length that differs between trials."""
    shapes = []
    for answers in zip(*[trial.answers for trial in plan.answered()], strict=True):
        if len({answer.ndim for answer in answers}) > 1:
            raise NotConvertible(f"{plan.what} has an output whose number of dimensions depends on the input")
        lengths = [{answer.shape[axis] for answer in answers} for axis in range(answers[0].ndim)]
        shape: Shape = tuple(found.pop() if len(found) == 1 else None for found in lengths)
        shapes.append((plan.batch, *shape[1:]) if shape and shape[0] is None else shape)
    return shapes


def _dtype(answer: Array, name: str) -> DType:
    found = dtypes.by_numpy(answer.dtype)
    if found is not None:
        return found
    if answer.dtype.name == "float16":
        return dtypes.FLOAT
    raise NotConvertible(f"output {name!r} has elements of type {answer.dtype}, which no tensor of RedisAI can hold")


def _mapping(plan: Plan, outputs: tuple[Output, ...], depth: int, precision: DType) -> Mapping:
    answer = Answer("list", tuple(Part(item.name) for item in outputs))
    fetch = tuple(range(len(outputs)))
    return Mapping(plan.inputs(), outputs, fetch, answer, None, plan.batch, depth, precision)


def _precision(plan: Plan) -> DType:
    """Return DOUBLE if all weights and floating-point outputs are float64, else FLOAT."""
    kinds = {str(tensor.dtype) for tensor in plan.source.call.module.parameters()}
    kinds |= {f"torch.{answer.dtype}" for answer in plan.answered()[0].answers if answer.dtype.kind == "f"}
    return dtypes.DOUBLE if kinds == {"torch.float64"} else dtypes.FLOAT


# -- ONNX -----------------------------------------------------------------------------------------


def _to_onnx(plan: Plan, program: Any, outputs: tuple[Output, ...]) -> onnx.ModelProto:
    import onnx

    inputs, buffer = plan.inputs(), io.BytesIO()
    tensors: list[Input | Output] = [*inputs, *outputs]
    options = {
        "dynamo": False,
        "opset_version": min(plan.request.limits.opset, _NEWEST_OPSET),
        "input_names": [item.name for item in inputs],
        "output_names": [item.name for item in outputs],
        "dynamic_axes": {item.name: _free_axes(item.name, item.shape) for item in tensors},
    }
    torch = untyped_torch()
    example = tuple(torch.from_numpy(np.array(array)) for array in plan.example())
    try:
        with warnings.catch_warnings(), torch.no_grad(), _quiet(torch), raising_operators():
            warnings.simplefilter("ignore")
            torch.onnx.export(program, example, buffer, **options)
    # The exporter passes on anything that its parts raise, even a RuntimeError from C++.
    except Exception as error:
        raise NotConvertible(f"{plan.what} can't be exported to ONNX; {_unexported(error)}") from error
    proto = onnx.load_from_string(buffer.getvalue())
    _check_inputs(plan, inputs, proto)
    return proto


def _unexported(error: Exception) -> str:
    """Return why torch's exporter fails, with the operator if it is one that ONNX lacks."""
    found = _OPERATOR.search(str(error))
    if found:
        return f"ONNX has nothing for torch's operator {found[1]} in the opset of the server; replace it"
    return f"its code does what torch's exporter can't follow (torch: {first_line(error)})"


@contextlib.contextmanager
def _quiet(torch: Any) -> Iterator[None]:
    """Keep the exporter from printing the whole graph before it raises. torch 2.13 does so even with its log off."""
    log = getattr(torch._C, "_jit_onnx_log", None)
    if log is None:
        yield
        return
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


def _free_axes(name: str, shape: Shape | None) -> dict[int, str]:
    """Return names for the axes of any length. Only the first axis, the rows, is the same length in all tensors."""
    return {axis: f"{name}_{axis}" if axis else "rows" for axis, length in enumerate(shape or ()) if length is None}


def _check_inputs(plan: Plan, inputs: tuple[Input, ...], proto: onnx.ModelProto) -> None:
    kept = {item.name for item in free_inputs(proto)}
    for item in inputs:
        if item.name not in kept:
            raise NotConvertible(f"{plan.what} doesn't use its input {item.name!r}, so its ONNX graph lacks it")


# -- trials ---------------------------------------------------------------------------------------


def _check(run: Run, mapping: Mapping, plan: Plan) -> None:
    """Run all trials. Raise NotConvertible if an answer differs from the module's own, or if a run fails."""
    for trial in plan.trials:
        if trial.problem is None:
            _check_answer(run, mapping, trial, plan.what)
        else:
            _check_refusal(run, mapping, trial, plan.what)


def _check_answer(run: Run, mapping: Mapping, trial: Trial, what: str) -> None:
    try:
        actual = _answers(run, trial.arrays, mapping)
        tolerance = max(tolerance_of(mapping), min(_MOST, _AMPLIFIED * trial.sensitivity))
        compare(_widened(trial.answers), actual, tolerance)
    except Difference as found:
        raise NotConvertible(f"{what} answers differently after conversion: {found}") from found
    # ONNX Runtime and TorchScript raise errors of many types for lengths that the conversion has fixed.
    except Exception as error:
        raise NotConvertible(
            f"{what} can't be run after conversion; some of its own input makes it fail "
            f"(the backend: {graph.reason_of(error)})"
        ) from error


def _check_refusal(run: Run, mapping: Mapping, trial: Trial, what: str) -> None:
    try:
        _answers(run, trial.arrays, mapping)
    except Exception:
        return
    raise NotConvertible(f"{what} raises an error for some input ({trial.problem}), which the conversion answers")


def answers_all(run: Run, mapping: Mapping, trials: Sequence[Trial]) -> bool:
    """Return whether a conversion answers, and raises, as the module itself in all of the trials."""
    for trial in trials:
        try:
            (_check_refusal if trial.problem else _check_answer)(run, mapping, trial, "the model")
        except NotConvertible:
            return False
    return True


def _answers(run: Run, arrays: Sequence[Array], mapping: Mapping) -> list[Array]:
    from redisai_engine.codec.prediction import join, split

    requests = split([Tensor.from_array(array) for array in arrays], mapping)
    return [tensor.array() for tensor in join([run(request) for request in requests], len(arrays[0]))]


def _widened(answers: Sequence[Array]) -> list[Array]:
    return [answer.astype(np.float32) if answer.dtype.name == "float16" else answer for answer in answers]
