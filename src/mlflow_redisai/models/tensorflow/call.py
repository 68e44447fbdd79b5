"""
A TensorFlow or Keras model as a function of tensors: how it is called, its trace, and runs on this machine.

Nothing here knows MLflow, or what the model is converted to.

Invariant: a `Traced` takes and returns flat lists of tensors in the order of its names, even if the model itself takes
and returns dicts and lists.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.structure import Structure
from redisai_engine.codec.mapping import Input, Output
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Tensor

# Loggers that report on retracing, operators and progress, which don't concern a user who deploys a model.
_CHATTY = ("tensorflow", "tf2onnx", "absl")

# Beginnings of the lines of an error that say where it occurred.
_WHERE = ("Exception encountered", "in user code", "File ")


def import_tensorflow(flavor: str) -> Any:
    """Return the package tensorflow. Raise MissingConverter, naming the extra, if it isn't installed."""
    # TensorFlow reads this when it is loaded. It silences its notes on the instruction sets of the CPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingConverter(flavor, "tensorflow", "tensorflow") from error
    return tensorflow


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries: Keras draws progress bars on standard output, and the others log and warn."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for name in _CHATTY:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@dataclass(frozen=True)
class CallingConvention:
    """
    A way to call a model: its inputs, and `call`, which takes a list with a tensor for each of them.

    `predict` is the library's own method for predictions, if there is one besides the call. It can't be traced.
    """

    inputs: tuple[Input, ...]
    call: Callable[[list[Any]], Any]
    predict: Callable[[list[Any]], Any] | None = None


@dataclass(frozen=True)
class Traced:
    """
    A model traced into one TensorFlow function, `concrete`. `what` names the model in errors.

    `convention` is how it was called for that. `specs` are the inputs' TensorSpecs, named input_0, input_1 and so on.
    `wanted` are numpy's names of the outputs' types, which RedisAI may lack.
    """

    what: str
    convention: CallingConvention
    structure: Structure
    outputs: tuple[Output, ...]
    wanted: tuple[str, ...]
    concrete: Any
    specs: tuple[Any, ...]

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.convention.inputs

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run the traced function."""
        return [to_tensor(value.numpy()) for value in self.concrete(*self._fed(tensors))]

    def ask_model(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run the model as it was loaded. The trace takes no part, so conversions can be measured against it."""
        import tensorflow as tf

        answer = (self.convention.predict or self.convention.call)(self._fed(tensors))
        return [to_tensor(tf.convert_to_tensor(value).numpy()) for value in self.structure.flat(answer)]

    def _fed(self, tensors: Sequence[Tensor]) -> list[Any]:
        import tensorflow as tf

        return [tf.constant(tensor.array(), spec.dtype) for tensor, spec in zip(tensors, self.specs, strict=True)]


def trace(conventions: Sequence[CallingConvention], names: Sequence[str], what: str) -> Traced:
    """
    Trace the model with the first of the conventions that it accepts. `names` are for outputs without names.

    If it accepts none, raise NotConvertible with TensorFlow's reason for the first one.
    """
    problems: list[Exception] = []
    for convention in conventions:
        try:
            return _trace(convention, names, what)
        except NotConvertible:
            raise
        # Tracing runs the model's own code, which may raise anything for inputs that it isn't made for.
        except Exception as error:
            problems.append(error)
    raise NotConvertible(
        f"{what} can't be called with the tensors of its signature; log it with a signature of what it takes "
        f"(TensorFlow: {reason(problems[0])})"
    )


def _trace(convention: CallingConvention, names: Sequence[str], what: str) -> Traced:
    import tensorflow as tf

    seen: list[Structure] = []

    def flat(*tensors: Any) -> list[Any]:
        answer = convention.call(list(tensors))
        structure = _structure(answer, names, what)
        seen.append(structure)
        return [tf.identity(tf.convert_to_tensor(value)) for value in structure.flat(answer)]

    specs = tuple(
        tf.TensorSpec(item.shape, tf_dtype(item.dtype), name=f"input_{index}")
        for index, item in enumerate(convention.inputs)
    )
    function = tf.function(flat, autograph=False)
    concrete = function.get_concrete_function(*specs)
    structure = seen[-1]
    found = zip(structure.names, concrete.outputs, strict=True)
    outputs = tuple(Output(name, _dtype(tensor.dtype), _shape(tensor.shape)) for name, tensor in found)
    wanted = tuple(_numpy_name(tensor.dtype) for tensor in concrete.outputs)
    return Traced(what, convention, structure, outputs, wanted, concrete, specs)


def _structure(answer: Any, names: Sequence[str], what: str) -> Structure:
    if isinstance(answer, dict):
        found = Structure("dict", tuple(map(str, answer)))
    elif isinstance(answer, (list, tuple)):
        fits = len(names) == len(answer) == len(set(names))
        found = Structure("list", tuple(names) if fits else tuple(f"output_{index}" for index in range(len(answer))))
    else:
        found = Structure("tensor", (names[0] if len(names) == 1 else "output",))
    if any(isinstance(value, (dict, list, tuple)) for value in found.flat(answer)):
        raise NotConvertible(
            f"{what} returns a nested structure; only a tensor, or a list, tuple or dict of tensors, can be served"
        )
    return found


# -- types ----------------------------------------------------------------------------------------


def tf_dtype(dtype: DType | None) -> Any:
    """Return TensorFlow's element type for one of RedisAI's."""
    import tensorflow as tf

    if dtype is None or dtype.is_string:
        return tf.string
    return tf.as_dtype(dtype.numpy)


def dtype_of(spec_dtype: Any, what: str) -> DType:
    """Return RedisAI's element type for an input's type in TensorFlow. Raise NotConvertible if there is none."""
    found = _dtype(spec_dtype)
    if found is None:
        raise NotConvertible(f"{what} takes a tensor of type {spec_dtype.name}, which RedisAI's tensors can't hold")
    return found


def _dtype(kind: Any) -> DType | None:
    """Return RedisAI's type, or None. float16 and bfloat16 become FLOAT; uint32 and uint64 become INT64."""
    import tensorflow as tf

    if kind == tf.string:
        return dtypes.STRING
    if kind.is_floating and kind.size < 4:
        return dtypes.FLOAT
    if kind in {tf.uint32, tf.uint64}:
        return dtypes.INT64
    return dtypes.by_numpy(kind.as_numpy_dtype) if kind.is_floating or kind.is_integer or kind.is_bool else None


def _numpy_name(kind: Any) -> str:
    name = np.dtype(kind.as_numpy_dtype).name
    return "float32" if name == "bfloat16" else name


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())


def to_tensor(array: Any) -> Tensor:
    """Return a tensor of an array from TensorFlow: bytes become text, and types that RedisAI lacks are widened."""
    values = to_text(np.asarray(array))
    if values.dtype.kind == "f" and values.dtype.itemsize < 4:
        values = values.astype(np.float32)
    if values.dtype in {np.dtype(np.uint32), np.dtype(np.uint64)}:
        values = values.astype(np.int64)
    return Tensor.from_array(values.astype(np.float32) if values.dtype.kind == "V" else values)


def to_text(values: Any) -> Any:
    """Return an array of bytes as text, and any other array unchanged."""
    if values.dtype.kind not in "OS":
        return values
    text = np.empty(values.size, object)
    text[:] = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in values.ravel().tolist()]
    return text.reshape(values.shape)


def reason(error: BaseException) -> str:
    """Return the part of a TensorFlow error that says what is wrong: the first line that isn't about its location."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_WHERE)]
    if not telling:
        return first_line(error)
    # TensorFlow Lite puts a location before the reason, and Keras puts all arguments after it.
    told = re.sub(r"^\S+:\d+:\d+: (error: )?", "", telling[0])
    return re.split(r" Received args: | Full object config: ", told)[0].rstrip(".")
