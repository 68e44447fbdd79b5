"""
Scripts: TorchScript source, compiled here, whose functions clients call by name.

Theory of operation. A script can use three names, which are resolved while it is compiled. `torch` has PyTorch's
operators and constants, and nothing else of the Python module. `redis` and `redisAI` have functions that leave
TorchScript for Python. These find the call that they belong to by its thread, and pass the script's request to the
call's `Caller`, which may wait for the event loop. (They are TorchScript functions that wrap Python functions, because
PyTorch reads past the end of a direct call to a Python function whose last arguments are gathered into a list.)

Invariant: a script can't reach Python or the file system, except through its `Caller`.
"""

from __future__ import annotations

import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from redisai_engine.backends.base import Array, BackendSettings, Outputs
from redisai_engine.backends.registry import backend
from redisai_engine.backends.scripts import Caller, ScriptCall
from redisai_engine.backends.torch import TorchBackend, to_array, to_tensor
from redisai_engine.backends.torch_script_source import check_source
from redisai_engine.errors import ModelLoadError, ModelRunError
from redisai_engine.protocol import texts
from redisai_engine.protocol.frames import ReplyError, Value

_ENTRY_POINT_TYPES = ["List[Tensor]", "List[str]", "List[str]"]
_FILE_OPERATORS = frozenset(("save", "from_file"))  # the only operators of PyTorch that open files
_WRAPPERS = """
def execute(command: str, args: List[str]) -> Any:
    return python.execute(command, args)

def asList(reply: Any) -> List[Any]:
    return python.as_list(reply)

def model_execute(name: str, inputs: List[Tensor], outputs: int) -> List[Tensor]:
    return python.model_execute(name, inputs, outputs)
"""


def compile_script(source: str, entry_points: Sequence[str], device: str, settings: BackendSettings) -> TorchScript:
    """
    Compile a script (AI.SCRIPTSTORE).

    Raise ModelLoadError with the compiler's text, with RedisAI's text for a bad entry point, or with the engine's own
    for a source so long or so deep that compiling it could crash the process.
    """
    check_source(source)
    framework = cast(TorchBackend, backend("TORCH"))
    framework.set_threads(settings)
    try:
        with warnings.catch_warnings():
            # RedisAI's scripts are TorchScript, which newer versions of torch deprecate.
            warnings.simplefilter("ignore", DeprecationWarning)
            unit = framework.torch._C.CompilationUnit()
            unit.define(source, _names(framework.torch))
        for name in entry_points:
            _check_entry_point(unit, name)
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(str(error)) from error
    return TorchScript(framework, unit, framework.device(device), entry_points)


def _check_entry_point(unit: Any, name: str) -> None:
    function = unit.find_function(_raw(name))
    if function is None:
        raise ModelLoadError(texts.ENTRY_POINT_ABSENT % name)
    types_ = [str(argument.type) for argument in function.schema.arguments]
    if len(types_) != len(_ENTRY_POINT_TYPES):
        raise ModelLoadError(texts.ENTRY_POINT_ARGUMENTS % (name, len(types_)))
    if types_ != _ENTRY_POINT_TYPES:
        raise ModelLoadError(texts.ENTRY_POINT_TYPES % (name, name))


def _raw(text: str) -> bytes:
    """Return text in the form in which PyTorch accepts bytes that aren't UTF-8."""
    return text.encode("utf-8", "surrogateescape")


class TorchScript:
    """A compiled script and the device that it runs on."""

    memory = 0

    def __init__(self, backend: TorchBackend, unit: Any, device: Any, entry_points: Sequence[str]) -> None:
        self.backend = backend
        self.torch = backend.torch
        self.device = device
        self._unit = unit
        self._entry_points = frozenset(entry_points)

    def give_back(self) -> None:
        """Do nothing: calls at the same time share what the script takes."""

    def new_stop(self) -> None:
        """Return None: PyTorch can't stop a call."""

    def run(self, call: ScriptCall, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        """Carry out a call. Raise ModelRunError."""
        self.backend.limit_threads()
        try:
            # Not inference_mode, which models run in: a script may be any code, and may do what that mode forbids.
            with self.torch.no_grad(), _running_call(_Running(call.caller, self.device)):
                tensors = [to_tensor(self.torch, array, self.device) for array in arrays]
                answer = self._call(call.function, tensors, call.keys, call.arguments)
            return self._outputs(call, answer)
        except ModelRunError:
            raise
        except Exception as error:
            # For an error from Python, PyTorch names its class twice and appends lines of the engine's own source.
            text = (
                str(error).partition("\n\nAt:\n")[0].replace("RuntimeError: RuntimeError: ", "RuntimeError: ").strip()
            )
            raise ModelRunError(text or type(error).__name__) from error

    def _outputs(self, call: ScriptCall, answer: Any) -> Outputs:
        if not call.output_count:
            return []
        values = list(answer) if isinstance(answer, tuple | list) else [answer]
        arrays = [to_array(self.torch, value, i) for i, value in enumerate(values)]
        if any(array is None for array in arrays):
            raise ModelRunError(texts.FUNCTION_NO_TENSOR % call.function)
        if len(arrays) != call.output_count:
            raise ModelRunError(texts.FUNCTION_OUTPUTS % call.function)
        return arrays

    def _call(self, name: str, tensors: list[Any], keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Call a function. One that isn't an entry point gets only tensors, dealt out according to its signature."""
        function = self._unit.find_function(_raw(name))
        if name in self._entry_points:
            return function(tensors, list(keys), list(arguments))
        if function is None:
            raise ModelRunError(texts.FUNCTION_ABSENT % name)
        return function(*_by_signature(name, function, tensors))


def _by_signature(name: str, function: Any, tensors: list[Any]) -> list[Any]:
    """
    Deal out tensors to a function's arguments (AI.SCRIPTRUN). Surplus tensors are ignored.

    An argument of type List[Tensor] takes all remaining tensors. Raise ModelRunError for too few tensors or an argument
    of another type.
    """
    arguments = function.schema.arguments
    if len(arguments) > len(tensors):
        raise ModelRunError(texts.FUNCTION_INPUTS % name)
    values: list[Any] = []
    for i, argument in enumerate(arguments):
        kind = str(argument.type)
        if kind == "List[Tensor]":
            return [*values, tensors[i:]]
        if kind != "Tensor":
            raise ModelRunError(texts.FUNCTION_INPUT_TYPE % name)
        values.append(tensors[i])
    return values


# The call that each thread is running


@dataclass(frozen=True, slots=True)
class _Running:
    """A call that is running: who answers its script, and the device of its tensors."""

    caller: Caller
    device: Any


class _Present(threading.local):
    call: _Running | None = None


_present = _Present()


@contextmanager
def _running_call(call: _Running) -> Iterator[None]:
    _present.call = call
    try:
        yield
    finally:
        _present.call = None


def _present_call() -> _Running:
    if _present.call is None:  # in a thread of PyTorch's own, which torch.jit.fork uses
        raise RuntimeError("redis and redisAI can be used only in the thread in which the script started")
    return _present.call


# The names that a script can use


class _Namespace(types.ModuleType):
    """
    A synthetic module for scripts, because PyTorch resolves names in modules. It has what `find` finds, nothing else.

    Attributes that every module has must not be found. PyTorch would try to compile Python's own classes, fail, and
    then show parts of that script in the errors of later scripts.
    """

    def __init__(self, name: str, find: Callable[[str], Any]) -> None:
        super().__init__(name)
        object.__setattr__(self, "_find", find)

    def __getattribute__(self, name: str) -> Any:
        if name == "__name__":  # PyTorch asks for it
            return super().__getattribute__(name)
        found = object.__getattribute__(self, "_find")(name)
        if found is None:
            raise AttributeError(name)
        return found


def _torch_member(torch: Any) -> Callable[[str], Any]:
    """Return a function that finds what scripts may use of `torch`: operators, and constants such as `float32`."""
    constants = (torch.dtype, torch.layout, torch.memory_format, float)
    operators = torch.ops.aten
    operator = type(operators.add)

    def find(name: str) -> Any:
        constant = getattr(torch, name, None)
        if isinstance(constant, constants):
            return constant
        found = None if name in _FILE_OPERATORS else getattr(operators, name, None)
        return found if isinstance(found, operator) else None

    return find


@cache
def _names(torch: Any) -> Callable[[str], Any]:
    """Return a function that resolves the names in a script. Letter case doesn't matter, as in RedisAI."""
    functions = _python_functions(torch)
    unit = torch._C.CompilationUnit()
    unit.define(_WRAPPERS, {"python": _Namespace("python", functions.get)}.get)
    redis = {name: unit.find_function(name) for name in ("execute", "asList")}
    redisai = {"model_execute": unit.find_function("model_execute")}
    names = {
        "torch": _Namespace("torch", _torch_member(torch)),
        "redis": _Namespace("redis", redis.get),
        "redisai": _Namespace("redisAI", redisai.get),
    }
    return lambda name: names.get(name.lower())


def _python_functions(torch: Any) -> dict[str, Any]:
    """Return the Python functions behind `redis` and `redisAI`, by name. They run in the script's thread."""

    def model_execute(name: str, inputs: list[Any], outputs: int) -> list[Any]:
        call = _present_call()
        model = call.caller.model(name.encode())
        if len(inputs) != len(model.inputs):
            raise RuntimeError(texts.INPUTS_MISMATCH)
        if outputs != len(model.outputs):
            raise RuntimeError(texts.OUTPUTS_MISMATCH)
        arrays = [cast(Array, to_array(torch, tensor, i)) for i, tensor in enumerate(inputs)]
        answer = model.run(arrays)
        if any(array is None for array in answer):
            raise RuntimeError(f"an output of model {name} isn't a tensor")
        return [to_tensor(torch, cast(Array, array), call.device) for array in answer]

    annotations: dict[Callable[..., Any], dict[str, Any]] = {
        _execute: {"command": str, "arguments": list[str], "return": Any},
        _as_list: {"reply": Any, "return": list[Any]},
        model_execute: {"name": str, "inputs": list[torch.Tensor], "outputs": int, "return": list[torch.Tensor]},
    }
    for function, types_ in annotations.items():
        function.__annotations__ = types_  # PyTorch needs types, but this module's annotations are strings
    return {function.__name__.lstrip("_"): torch.jit.ignore(function) for function in annotations}


def _execute(command: str, arguments: list[str]) -> Any:
    reply = _present_call().caller.command([word.encode() for word in (command, *arguments)])
    if isinstance(reply, ReplyError):
        raise RuntimeError(texts.SCRIPT_REDIS_ERROR % reply.text)
    return _script_value(reply)


def _script_value(reply: Value) -> Any:
    """Convert a reply of Redis to what a script sees: text, integers, None, and arrays of these for redis.asList."""
    if isinstance(reply, list):
        values = [_script_value(value) for value in reply]
        # PyTorch can infer the type of a list only if all elements are of one type, but that of any tuple.
        return values if values and all(isinstance(value, str) for value in values) else tuple(values)
    if isinstance(reply, ReplyError):
        return reply.text
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, float):
        return f"{reply:.17g}"  # text, as in RESP2
    return None if reply is None else int(reply)


def _as_list(reply: Any) -> list[Any]:
    if not isinstance(reply, list | tuple):
        raise RuntimeError(f"redis.asList takes an array from a reply of Redis, not {reply!r}")
    return list(reply)
