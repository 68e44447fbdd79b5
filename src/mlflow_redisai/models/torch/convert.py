"""
The flavor pytorch: a torch.export program (`pt2`), a pickled nn.Module or a ScriptModule.

The answer is pyfunc's: a frame (columns 0, 1, ...) if the signature has columns, an array if it has a tensor. pyfunc
can answer only models with one input and one output. For all others the reference is the module itself, called with the
signature's tensors by name or by position. Its dict becomes a dict, its list or tuple a list.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import Reference, pyfunc_reference
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.torch.export import TorchExport, answers_all, export, runner
from mlflow_redisai.models.torch.reading import TorchConversion, read
from mlflow_redisai.models.torch.torchscript import Source
from mlflow_redisai.models.torch.trial import Trial
from mlflow_redisai.models.torch.trials import Trials, for_any_strides, try_out
from mlflow_redisai.models.trials.limits import NumberLimits, limits_of
from redisai_engine.codec.answers import decode
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.mapping import Answer, Container, Mapping, Output, Part
from redisai_engine.codec.values import Array
from redisai_engine.protocol.tensor import Tensor


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a PyTorch model. Raise NotConvertible or MissingConverter."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingConverter("pytorch", "torch", "torch") from error
    conversion = for_any_strides(read(model))
    trials = try_out(conversion)
    source = Source(conversion.call, trials.structure, conversion.program, trials.reads)
    exported = export(source, trials.plain, request)
    limits = _limits(conversion, exported, trials, request)
    conversion = replace(conversion, schema=limits.applied(conversion.schema, exported.mapping.inputs))
    mapping = _with_answer(conversion, exported.mapping, trials, request.outputs)
    reference = _reference(conversion, trials.structure, mapping, chosen=bool(request.outputs))
    notes = (*exported.notes, *limits.notes)
    return Deployable("pytorch", request.backend, exported.blob, mapping, reference, conversion.example, notes=notes)


def _limits(conversion: TorchConversion, exported: TorchExport, trials: Trials, request: Request) -> NumberLimits:
    """Return which numbers the blob answers as the module itself."""
    run = runner(exported.blob, exported.mapping.fetch, request.backend, conversion.call.what)
    answered = [(size, answers_all(run, exported.mapping, [trial])) for size, trial in trials.odd]
    return replace(limits_of(trials.plain[0].arrays, answered), whole=trials.whole)


# -- the answer -----------------------------------------------------------------------------------


def _with_answer(conversion: TorchConversion, mapping: Mapping, trials: Trials, outputs: tuple[str, ...]) -> Mapping:
    structure, trial = trials.structure, trials.plain[0]
    for name in outputs:
        if name not in structure.names:
            raise NotConvertible(f"{conversion.call.what} has no output {name!r}; it has {', '.join(structure.names)}")
    fetch = tuple(structure.names.index(name) for name in outputs) or mapping.fetch
    parts = tuple(Part(structure.names[index], trial.answers[index].dtype.name) for index in fetch)
    container = _container(conversion, structure, trial, outputs)
    return replace(mapping, fetch=fetch, answer=Answer(container, parts), schema=conversion.schema)


def _container(conversion: TorchConversion, structure: Structure, trial: Trial, outputs: tuple[str, ...]) -> Container:
    if outputs:
        return "ndarray" if len(outputs) == 1 else "dict"
    if structure.kind != "tensor":
        return structure.kind
    # A pandas frame has at most two dimensions.
    if trial.answers[0].ndim > 2 or (conversion.enforced and conversion.schema.kind == "tensors"):
        return "ndarray"
    return "matrix" if conversion.enforced else "matrix like input"


def _reference(conversion: TorchConversion, structure: Structure, mapping: Mapping, *, chosen: bool) -> Reference:
    """Return pyfunc as the reference, or the module itself for chosen outputs and if pyfunc can't answer."""
    if not chosen and _pyfunc_answers(conversion):
        return pyfunc_reference(conversion.model)
    encoder = Encoder(mapping)

    def own(inputs: Any) -> Any:
        arrays = [tensor.array() for tensor in encoder.encode(inputs)]
        answers = conversion.call.run(arrays, structure)
        tensors = [_as_tensor(answers[index], mapping.outputs[index]) for index in mapping.fetch]
        return decode(tensors, mapping, inputs)

    checks = "" if conversion.checked else ", without the guards that torch.export gave it"
    return Reference(f"the PyTorch module itself{checks}", own)


def _as_tensor(answer: Array, output: Output) -> Tensor:
    """Return a tensor of an array, widened if RedisAI lacks its type. Decoding restores the type."""
    return Tensor.from_array(answer if output.dtype is None else answer.astype(output.dtype.numpy))


def _pyfunc_answers(conversion: TorchConversion) -> bool:
    if conversion.example is None:
        return True
    try:
        conversion.model.pyfunc().predict(conversion.example)
    # TypeError for several inputs or outputs, MlflowException for a model logged without pyfunc.
    except Exception:
        return False
    return True
