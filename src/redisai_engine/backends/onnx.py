"""
The ONNX backend, which runs models with ONNX Runtime.

The names of inputs and outputs are the graph's. Outputs that aren't tensors (such as a ZipMap's sequence of maps) are
listed but never fetched; they are left out of the reply, as RedisAI does. Errors are ONNX Runtime's own texts.
"""

from __future__ import annotations

import copy
import ctypes
import fcntl
import mmap
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from redisai_engine.backends.base import (
    WIDENED,
    Array,
    Backend,
    BackendSettings,
    LoadedModel,
    Outputs,
    Stop,
    TensorInfo,
    narrow,
    parse_device,
    widen,
)
from redisai_engine.backends.onnx_bindings import Bindings
from redisai_engine.backends.onnx_file import BadFile, OnnxFile, read
from redisai_engine.backends.onnx_steady import is_steady, most_rows
from redisai_engine.errors import DeviceUnavailable, ModelLoadError, ModelRunError
from redisai_engine.protocol.dtypes import DTYPES

#: The prefix that ONNX Runtime's Python layer puts in front of the runtime's own text.
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")

#: What ONNX Runtime says when it didn't get memory.
_NO_MEMORY = re.compile(r"bad_alloc|[Ff]ailed to allocate memory")
_NO_MEMORY_PRINTED = re.compile(_NO_MEMORY.pattern.encode())

#: A model that adds a number to itself, as ONNX has it: the package `onnx` isn't needed to serve models.
_SMALLEST = (
    b'\x08\x07:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)

_MOST_PRINTED = 16 << 20  # bytes of warnings about one model
_WARNINGS, _ERRORS, _FATAL = 2, 3, 4  # ONNX Runtime's numbers of what is printed

_EXAMPLE_ELEMENTS = 1 << 16  # of all made-up inputs together

#: NumPy's names of ONNX's element types, where the two differ.
_NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "object"}

#: The supported element types, by NumPy's names.
_TYPES = {dtype.numpy.name for dtype in DTYPES} | WIDENED.keys()


class OnnxBackend(Backend):
    """ONNX Runtime, on the CPU or with its CUDA provider."""

    name = "ONNX"

    def __init__(self) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ERRORS)  # it warns of each GPU that is no plugin's
        self._runtime = onnxruntime
        self._is_bounded = False
        self._has_looked = False  # for CUDA
        self.version = str(onnxruntime.__version__)

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        return self._loaded(blob, device, settings, _FATAL)

    def try_out(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        # Without memory to compute a constant, ONNX Runtime prints a warning and goes on without it. Where more memory
        # is allowed, it would take that.
        try:
            with _printed() as said:
                model = self._loaded(blob, device, settings, _WARNINGS)
        except ModelLoadError as error:
            if _NO_MEMORY.search(error.wire):
                raise MemoryError from error
            raise
        if said.has(_NO_MEMORY_PRINTED):
            raise MemoryError
        return model

    def warm_up(self) -> None:
        # The first session fills tables of operators, which takes 20 ms. No thread outlives it.
        model = self.load(_SMALLEST, "CPU", inputs=(), outputs=(), settings=BackendSettings())
        model.run(model.example() or [])

    def _loaded(self, blob: bytes, device: str, settings: BackendSettings, severity: int) -> LoadedModel:
        providers = self._providers(device)
        file = _read(blob)
        if settings.onnx_memory and not self._is_bounded:
            self._bound_memory(settings.onnx_memory)
        options = self._options(settings, severity)
        try:
            session = self._session(blob, options, providers)
        except Exception as error:
            if len(providers) > 1:
                self._check_device(device, options, providers)
            raise ModelLoadError(_text(error)) from error
        session._model_bytes = None  # kept for other providers to start from, which nobody asks for
        if len(providers) > 1:
            _check_gpu(session, providers[0][1]["device_id"])
        steady = len(providers) == 1 and is_steady(file)
        return OnnxModel(session, self._runtime.RunOptions, steady=steady, loop_rows=most_rows(file))

    def _session(self, blob: bytes, options: Any, providers: list[Any]) -> Any:
        # With its fallback it would go on with the CPU when the GPU isn't there, or has failed in a run.
        return self._runtime.InferenceSession(blob, options, providers=providers, enable_fallback=0)

    def _check_device(self, device: str, options: Any, providers: list[Any]) -> None:
        """Raise DeviceUnavailable if not even the smallest model can be loaded there."""
        try:
            self._session(_SMALLEST, options, providers)
        except Exception as error:
            raise _no_gpu(device) from error

    def _providers(self, device: str) -> list[Any]:
        kind, index = parse_device(device)
        if kind != "GPU":
            return ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" not in self._runtime.get_available_providers():
            raise _no_cuda()
        self._find_cuda()
        # TF32 would be faster, but keeps three digits of each product only; answers must be those of the CPU.
        return [("CUDAExecutionProvider", {"device_id": str(index), "use_tf32": "0"}), "CPUExecutionProvider"]

    def _find_cuda(self) -> None:
        """Load CUDA's libraries from NVIDIA's wheels, which the system's loader doesn't look into."""
        if not self._has_looked and hasattr(self._runtime, "preload_dlls"):  # since 1.21
            self._runtime.preload_dlls()
        self._has_looked = True

    def _bound_memory(self, most: int) -> None:
        """
        Have all models share one allocator for their runs, which gives no more than `most` bytes.

        A run that needs more fails. Without a bound, the system would end the engine. Speed is the same (measured).
        """
        runtime = self._runtime
        kind = (runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
        arena = runtime.OrtArenaCfg({"max_mem": most, "arena_extend_strategy": 1})  # 1: no more than is asked for
        runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", *kind), arena)
        self._is_bounded = True

    def _options(self, settings: BackendSettings, severity: int) -> Any:
        options = self._runtime.SessionOptions()
        if settings.onnx_memory:
            options.add_session_config_entry("session.use_env_allocators", "1")
            # Weights have memory of their own, which is given back together with the model.
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        options.intra_op_num_threads = settings.intra_op_threads
        options.inter_op_num_threads = settings.inter_op_threads
        # A thread that spins while it waits for work takes a core away from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # ONNX Runtime must not take the bytes for its own format, which `read` doesn't know.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = severity  # errors are raised as exceptions and need not be printed too
        return options


class OnnxModel(LoadedModel):
    """An ONNX Runtime session, with everything about its inputs and outputs looked up once."""

    def __init__(self, session: Any, new_run_options: Callable[[], Stop], *, steady: bool, loop_rows: int) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        _check_types(inputs, outputs)
        self.inputs = tuple(node.name for node in inputs)
        self.outputs = tuple(node.name for node in outputs)
        self._session_inputs = inputs
        self.input_infos = tuple(_info(node) for node in inputs)
        self.output_infos = tuple(_info(node) if _is_tensor(node.type) else None for node in outputs)
        self._only = self.inputs[0] if len(self.inputs) == 1 else ""  # the usual case, which needs no zip
        self.steady = steady
        self.loop_rows = loop_rows
        self.takes_text = any(_numpy_name(node.type) == "object" for node in inputs)
        self._new_run_options = new_run_options
        # InferenceSession.run checks names and counts that have already been checked. The method below it is a fifth
        # faster on a small model. Every version since 1.0 has it, but it is private, hence the fallback.
        self._run = getattr(session, "_sess", session).run
        self._fetch = [node.name for node in outputs if _is_tensor(node.type)]
        self._narrowed = [(i, _numpy_name(node.type)) for i, node in enumerate(inputs) if _is_widened(node.type)]
        # The usual model: all outputs are tensors of types that RedisAI has, so they need no conversion.
        self._has_own_types = bool(self._narrowed) or any(_is_widened(node.type) for node in outputs)
        self._widens = True
        self._plain = len(self._fetch) == len(outputs) and not any(_is_widened(node.type) for node in outputs)
        self._bindings = Bindings(session, self.inputs, self._fetch) if self._plain and steady else None

    def new_stop(self) -> Stop | None:
        return self._new_run_options()

    def in_own_types(self) -> LoadedModel | None:
        if not (self._has_own_types and self._widens):
            return self
        same = copy.copy(self)
        same._widens = False
        return same

    def example(self) -> list[Array] | None:
        shapes = [_small_shape(node) for node in self._session_inputs]
        if sum(prod(shape) for shape in shapes) > _EXAMPLE_ELEMENTS:
            return None
        kinds = [_numpy_name(node.type) for node in self._session_inputs]
        try:
            return [
                np.full(shape, "1", "O") if kind == "object" else np.ones(shape, kind)
                for shape, kind in zip(shapes, kinds, strict=True)
            ]
        except ValueError:  # more dimensions than NumPy has, or lengths beside a zero that it can't multiply
            return None

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        bindings = self._bindings
        bound = None if bindings is None else bindings.run(arrays, stop)
        if type(bound) is list:
            return bound
        if self._narrowed:
            arrays = self._narrow(arrays)
        try:
            feed = {self._only: arrays[0]} if self._only else dict(zip(self.inputs, arrays, strict=False))
            found = self._run(self._fetch, feed, stop)
        except UnicodeError as error:
            raise ModelRunError(f"ERR ONNX models take only UTF-8 text: {error}") from error
        except Exception as error:
            raise ModelRunError(_text(error)) from error
        if bindings is not None:
            bindings.learn(arrays, found, failed=bound is not None)
        return found if self._plain else self._in_order(found)

    def _narrow(self, arrays: Sequence[Array]) -> list[Array]:
        changed = list(arrays)
        for index, dtype in self._narrowed:
            changed[index] = narrow(changed[index], dtype, self.inputs[index])
        return changed

    def _in_order(self, found: Sequence[Any]) -> Outputs:
        """Return all outputs in order: None for one that isn't a tensor, widened where RedisAI lacks its type."""
        # Asked for no outputs, ONNX Runtime returns all of them; in that case none is a tensor.
        by_name = dict(zip(self._fetch, found, strict=False))
        if self._widens:
            return [_tensor(by_name.get(name), name) for name in self.outputs]
        values = [by_name.get(name) for name in self.outputs]
        return [value if isinstance(value, np.ndarray) else None for value in values]


def _info(node: Any) -> TensorInfo:
    shape = tuple(length if isinstance(length, int) and length >= 0 else None for length in node.shape)
    return TensorInfo(_numpy_name(node.type), shape)


def _small_shape(node: Any) -> list[int]:
    """Return the smallest shape that an input takes, as far as the model tells."""
    return [length if isinstance(length, int) else 1 for length in node.shape]


class _Printed:
    """
    What is written to a pipe, up to `_MOST_PRINTED` bytes.

    ONNX Runtime (1.30, but not 1.32) holds Python's lock while it loads a model and prints warnings. So a call of C's
    library reads all of them, without that lock. When a thread read part by part, a full pipe made loading wait for
    ever.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._bytes = mmap.mmap(-1, _MOST_PRINTED)  # takes memory only as it is filled
        self._count = 0
        self._library = ctypes.CDLL(None)
        self._library.fdopen.restype = ctypes.c_void_p
        self._library.fread.restype = ctypes.c_size_t
        self._thread = threading.Thread(target=self._read, args=[reading], daemon=True)
        self._thread.start()
        # More than the pipe takes: it has been written when the call that reads has begun.
        os.write(writing, b"\n" * (fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) + 1))

    def has(self, what: re.Pattern[bytes]) -> bool:
        """
        Return whether this was written. Nobody may have the pipe open for writing any more.

        Raise ModelLoadError if more was written than is kept.
        """
        self._thread.join()
        if self._count == _MOST_PRINTED:
            raise ModelLoadError(f"ONNX Runtime prints {_MOST_PRINTED >> 20} MiB of warnings about the model")
        return what.search(self._bytes, 0, self._count) is not None

    def _read(self, reading: int) -> None:
        file = ctypes.c_void_p(self._library.fdopen(reading, b"r"))
        memory = (ctypes.c_char * _MOST_PRINTED).from_buffer(self._bytes)
        self._count = self._library.fread(memory, ctypes.c_size_t(1), ctypes.c_size_t(_MOST_PRINTED), file)
        self._library.fclose(file)


@contextmanager
def _printed() -> Iterator[_Printed]:
    """Collect what libraries of this process print to its standard error."""
    reading, writing = os.pipe()
    printed = _Printed(reading, writing)
    before = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield printed
    finally:
        os.dup2(before, 2)
        os.close(before)


def _tensor(value: Any, name: str) -> Array | None:
    return widen(value, name) if isinstance(value, np.ndarray) else None


def _check_types(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raise ModelLoadError for a model with an input or output of a type that no RedisAI tensor can carry."""
    for role, node in [*(("input", node) for node in inputs), *(("output", node) for node in outputs)]:
        if role == "output" and not _is_tensor(node.type):
            continue
        name = _numpy_name(node.type)
        if name not in _TYPES:
            raise ModelLoadError(
                f"ERR {role} {node.name} has the type {node.type}, which the engine doesn't support; "
                "convert the model to one of FLOAT, DOUBLE, FLOAT16 or an integer type"
            )


def _is_tensor(onnx_type: str) -> bool:
    return onnx_type.startswith(("tensor(", "optional(tensor("))


def _numpy_name(onnx_type: str) -> str:
    element = onnx_type.removeprefix("optional(").removeprefix("tensor(").rstrip(")")
    return _NUMPY_NAMES.get(element, element)


def _is_widened(onnx_type: str) -> bool:
    return _numpy_name(onnx_type) in WIDENED


def _read(blob: bytes) -> OnnxFile:
    """
    Read the model's nodes and tensors before ONNX Runtime gets them.

    Raise ModelLoadError for what isn't a model, for one that would have ONNX Runtime read files on the engine's
    machine, and for one that takes far more memory than its bytes suggest.
    """
    try:
        file = read(blob)
    except BadFile as error:
        raise ModelLoadError(f"ERR the model isn't an ONNX file that the engine can check: {error}") from error
    if file.external:
        raise ModelLoadError(
            f"ERR the data of tensor {file.external[0]} is in another file, which the engine never reads; "
            "save the model with all its data inside"
        )
    return file


def _text(error: Exception) -> str:
    return _PREFIX.sub("", str(error)).strip() or type(error).__name__


def _check_gpu(session: Any, device_id: str) -> None:
    """Raise DeviceUnavailable if ONNX Runtime, built with CUDA, has fallen back to the CPU or to another GPU."""
    options = session.get_provider_options().get("CUDAExecutionProvider")
    if options is None:  # the driver is missing
        raise _no_cuda()
    if options.get("device_id", device_id) != device_id:
        raise _no_gpu(f"GPU:{device_id}")


def _no_cuda() -> DeviceUnavailable:
    return DeviceUnavailable("ERR GPU requested but ONNX couldn't find CUDA")


def _no_gpu(device: str) -> DeviceUnavailable:
    return DeviceUnavailable(f"ERR ONNX Runtime can't use device {device}; is it there?")
