"""
The TF backend, which runs frozen TensorFlow graphs (GraphDef) with a session.

A graph doesn't state its inputs and outputs. AI.MODELSTORE names them: each name is an operation and means its first
output. TensorFlow's session would cast inputs silently; here a wrong type is an error, as in RedisAI. A run can't be
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redisai_engine.backends.base import (
    Array,
    Backend,
    BackendSettings,
    LoadedModel,
    Outputs,
    narrow,
    parse_device,
    widen,
)
from redisai_engine.errors import DeviceUnavailable, ModelLoadError, ModelRunError

#: Operators whose work depends on the values of their inputs. The run time of a graph with one can't be predicted.
_UNSTEADY = {"While", "StatelessWhile", "LoopCond", "Range", "Tile", "Fill", "BroadcastTo", "Where"}

#: TensorFlow's names of NumPy's dtypes, where the two differ.
_NAMES = {"float32": "float", "float64": "double", "float16": "half", "object": "string"}


class TensorFlowBackend(Backend):
    """TensorFlow, on the CPU or on a GPU that it supports."""

    name = "TF"

    def __init__(self) -> None:
        import tensorflow

        self._tf = tensorflow
        self.version = str(tensorflow.__version__)

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        place = self._place(device)
        graph = self._graph(blob, place)
        feeds = [_first_output(graph, name, f'ERR Input node named "{name}" not found in TF graph.') for name in inputs]
        fetches = [
            _first_output(graph, name, f'ERR Output node named "{name}" not found in TF graph') for name in outputs
        ]
        session = self._tf.compat.v1.Session(graph=graph, config=self._config(settings))
        # On a GPU, the time measured on the CPU says nothing.
        steady = place == "" and not any(operation.type in _UNSTEADY for operation in graph.get_operations())
        return TensorFlowModel(session, feeds, fetches, (tuple(inputs), tuple(outputs)), steady=steady)

    def _place(self, device: str) -> str:
        kind, index = parse_device(device)
        if kind != "GPU":
            return ""
        if index >= len(self._tf.config.list_physical_devices("GPU")):
            raise DeviceUnavailable("ERR GPU requested but TF couldn't find CUDA")
        return f"/GPU:{index}"

    def _graph(self, blob: bytes, place: str) -> Any:
        definition = self._tf.compat.v1.GraphDef()
        graph = self._tf.Graph()
        try:
            definition.ParseFromString(blob)
            with graph.as_default(), self._tf.device(place):
                self._tf.import_graph_def(definition, name="")
        except Exception as error:
            raise ModelLoadError(f"Invalid GraphDef: {error}") from error
        return graph

    def _config(self, settings: BackendSettings) -> Any:
        # -1 runs all operations in the calling thread: measured twice as fast on a small graph as a pool of one thread.
        inter = -1 if settings.inter_op_threads == 1 else settings.inter_op_threads
        return self._tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=settings.intra_op_threads,
            inter_op_parallelism_threads=inter,
            allow_soft_placement=True,
        )


class TensorFlowModel(LoadedModel):
    """A session whose feeds and fetches are prepared."""

    def __init__(
        self,
        session: Any,
        feeds: Sequence[Any],
        fetches: Sequence[Any],
        names: tuple[tuple[str, ...], tuple[str, ...]],
        *,
        steady: bool,
    ) -> None:
        self.inputs, self.outputs = names
        self.steady = steady
        self._dtypes = [np.dtype(feed.dtype.as_numpy_dtype) for feed in feeds]
        # Session.run would resolve feeds and fetches again on every call.
        self._run = session.make_callable(list(fetches), list(feeds))

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        checked = [self._checked(i, array) for i, array in enumerate(arrays)]
        try:
            found = self._run(*checked)
        except Exception as error:
            # The text of a TensorFlow error appends the operation's stack trace; `message` doesn't have it.
            raise ModelRunError(getattr(error, "message", None) or str(error)) from error
        return [_output(value, name) for value, name in zip(found, self.outputs, strict=True)]

    def _checked(self, index: int, array: Array) -> Array:
        wanted = self._dtypes[index]
        array = narrow(array, wanted, self.inputs[index])
        if array.dtype != wanted:
            raise ModelRunError(f"Expects arg[{index}] to be {_name(wanted)} but {_name(array.dtype)} is provided")
        return _encoded(array) if wanted.kind == "O" else array


def _first_output(graph: Any, name: str, missing: str) -> Any:
    try:
        return graph.get_operation_by_name(name).outputs[0]
    # In this order: no such operation, a malformed name, an operation without outputs.
    except (KeyError, ValueError, IndexError) as error:
        raise ModelLoadError(missing) from error


def _output(value: Any, name: str) -> Array:
    array = np.asarray(value)
    return _decoded(array) if array.dtype.kind in "OS" else widen(array, name)


def _encoded(array: Array) -> Array:
    """Return text as TensorFlow takes it: as bytes, of any encoding."""
    return _each(array, lambda text: text.encode("utf-8", "surrogateescape"))


def _decoded(array: Array) -> Array:
    return _each(array, lambda raw: raw.decode("utf-8", "surrogateescape"))


def _each(array: Array, change: Callable[[Any], object]) -> Array:
    changed = np.empty(array.size, object)
    changed[:] = [change(element) for element in array.ravel().tolist()]
    return changed.reshape(array.shape)


def _name(dtype: np.dtype[Any]) -> str:
    name = str(dtype)
    return _NAMES.get(name, name)
