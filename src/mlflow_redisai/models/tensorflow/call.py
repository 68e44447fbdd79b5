"""
A TensorFlow or Keras model seen as a function of tensors: how it is called, traced once, and run where it is.

Knows nothing of MLflow and of what the model becomes. Invariant: `Traced` has one row of tensors in and out, in the
order of its names, whatever dicts and lists the model itself takes and gives.
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

# They tell of retracing, of operators and of progress, which is no news to who deploys a model.
_CHATTY = ("tensorflow", "tf2onnx", "absl")

# How lines of an error begin that say where it was.
_WHERE = ("Exception encountered", "in user code", "File ")


def import_tensorflow(flavor: str) -> Any:
    """Return the package. Raise MissingConverter, naming the extra."""
    # Read by TensorFlow's own code when it is loaded: no notes about instructions of this CPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingConverter(flavor, "tensorflow", "tensorflow") from error
    return tensorflow


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries: Keras draws bars on standard output, the others log and warn."""
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
    How a model is called: its inputs, and what is done with one tensor for each of them.

    `predict` is the library's own way to ask the model, where that is another than calling it; it can't be traced.
    """

    inputs: tuple[Input, ...]
    call: Callable[[list[Any]], Any]
    predict: Callable[[list[Any]], Any] | None = None


@dataclass(frozen=True)
class Traced:
    """
    A model as one TensorFlow function.

    `convention` is how it was called for that. `specs` are TensorFlow's of the inputs, named input_0, input_1 ...;
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
        """Ask the model as it was loaded: nothing of the trace takes part, so this is what it is measured by."""
        import tensorflow as tf

        answer = (self.convention.predict or self.convention.call)(self._fed(tensors))
        return [to_tensor(tf.convert_to_tensor(value).numpy()) for value in self.structure.flat(answer)]

    def _fed(self, tensors: Sequence[Tensor]) -> list[Any]:
        import tensorflow as tf

        return [tf.constant(tensor.array(), spec.dtype) for tensor, spec in zip(tensors, self.specs, strict=True)]


def trace(conventions: Sequence[CallingConvention], names: Sequence[str], what: str) -> Traced:
    """
    Return the model as called in the first of the conventions that it takes. `names` are for outputs that have none.

    Raise NotConvertible with TensorFlow's reason, that of the first convention.
    """
    problems: list[Exception] = []
    for convention in conventions:
        try:
            return _trace(convention, names, what)
        except NotConvertible:
            raise
        # Tracing runs the model's own code: whatever that raises for inputs that it isn't made for.
        except Exception as error:
            problems.append(error)
    raise NotConvertible(f"{what} can't be called with the tensors of its signature: {reason(problems[0])}")


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
            f"{what} gives a structure in a structure; a deployed model can give a tensor, or a dict or list of tensors"
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
    """Return RedisAI's element type for an input of TensorFlow's. Raise NotConvertible if there is none."""
    found = _dtype(spec_dtype)
    if found is None:
        raise NotConvertible(f"{what} takes a tensor of {spec_dtype.name}, which RedisAI has no tensors for")
    return found


def _dtype(kind: Any) -> DType | None:
    """Return RedisAI's type: for one that it lacks, the next that holds all its values."""
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
    """Make a tensor of what TensorFlow gives: text is bytes there, and some types are none of RedisAI's."""
    values = to_text(np.asarray(array))
    if values.dtype.kind == "f" and values.dtype.itemsize < 4:
        values = values.astype(np.float32)
    if values.dtype in {np.dtype(np.uint32), np.dtype(np.uint64)}:
        values = values.astype(np.int64)
    return Tensor.from_array(values.astype(np.float32) if values.dtype.kind == "V" else values)


def to_text(values: Any) -> Any:
    """Make text of an array of bytes, and leave every other as it is."""
    if values.dtype.kind not in "OS":
        return values
    text = np.empty(values.size, object)
    text[:] = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in values.ravel().tolist()]
    return text.reshape(values.shape)


def reason(error: BaseException) -> str:
    """Return the line of a TensorFlow error that says what is wrong: the first that isn't about where it was."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_WHERE)]
    if not telling:
        return first_line(error)
    # TensorFlow Lite puts a place before what is wrong; others put all that was given behind it.
    told = re.sub(r"^\S+:\d+:\d+: (error: )?", "", telling[0])
    return re.split(r" Received args: | Full object config: ", told)[0].rstrip(".")
