"""
Compiles and runs scripts: TorchScript source, whose functions a client calls by name.

Theory of operation. A script knows three names, which are looked up while it is compiled. `torch` has PyTorch's
operators and constants and nothing of Python's module else. `redis` and `redisAI` have functions that leave
TorchScript for Python: these find the call they belong to by its thread, and put what the script asks to the call's
`Caller`, which may wait for the event loop. (They are TorchScript functions themselves, around calls of Python
functions: PyTorch reads past the end of a call to a Python function whose last arguments are gathered into a list.)

A call runs as a model runs, so that it waits in the device's queue, can time out there and is counted like one.

Invariant: a script reaches neither Python nor the file system, but through its `Caller`.
"""

from __future__ import annotations

import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, cast

from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs
from redisai_engine.backends.registry import backend
from redisai_engine.backends.torch import TorchBackend, to_array, to_tensor
from redisai_engine.backends.torch_script_source import check_source
from redisai_engine.errors import ModelLoadError, ModelRunError
from redisai_engine.protocol import texts
from redisai_engine.protocol.frames import ReplyError, Value

_ENTRY_POINT_TYPES = ["List[Tensor]", "List[str]", "List[str]"]
_FILE_OPERATORS = frozenset(("save", "from_file"))  # the only ones of PyTorch's that open files
_WRAPPERS = """
def execute(command: str, args: List[str]) -> Any:
    return python.execute(command, args)

def asList(reply: Any) -> List[Any]:
    return python.as_list(reply)

def model_execute(name: str, inputs: List[Tensor], outputs: int) -> List[Tensor]:
    return python.model_execute(name, inputs, outputs)
"""


class Caller(Protocol):
    """What a script may ask for while it runs; called in the script's thread. Errors may be of any kind."""

    def command(self, arguments: Sequence[bytes]) -> Value:
        """Has Redis carry out a command, as the client that called the script."""

    def model(self, key: bytes) -> LoadedModel:
        """Gives the model that the client would run under that key."""


def compile_script(source: str, entry_points: Sequence[str], device: str, settings: BackendSettings) -> TorchScript:
    """
    Compile a script.

    Raise ModelLoadError with the compiler's text, RedisAI's for a bad entry point, or ours for a source that would end
    the process.
    """
    check_source(source)
    framework = cast(TorchBackend, backend("TORCH"))
    framework.set_threads(settings)
    try:
        with warnings.catch_warnings():
            # RedisAI's scripts are TorchScript, which new versions of torch deprecate.
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
    """As PyTorch takes text that may have bytes that aren't utf-8."""
    return text.encode("utf-8", "surrogateescape")


class TorchScript:
    """A compiled script and the device that it runs on."""

    def __init__(self, backend: TorchBackend, unit: Any, device: Any, entry_points: Sequence[str]) -> None:
        self.backend = backend
        self.torch = backend.torch
        self.device = device
        self._unit = unit
        self._entry_points = frozenset(entry_points)

    def call(self, name: str, tensors: list[Any], keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Calls a function. One that is no entry point gets tensors alone, as its arguments ask for them."""
        function = self._unit.find_function(_raw(name))
        if name in self._entry_points:
            return function(tensors, list(keys), list(arguments))
        if function is None:
            raise ModelRunError(texts.FUNCTION_ABSENT % name)
        return function(*_by_signature(name, function, tensors))


def _by_signature(name: str, function: Any, tensors: list[Any]) -> list[Any]:
    """Deals out tensors to a function's arguments; a list takes all that are left, and none is too many."""
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


@dataclass(eq=False)
class ScriptCall(LoadedModel):
    """One call of a script's function, to be run as a model is run."""

    script: TorchScript
    function: str
    keys: Sequence[bytes]
    arguments: Sequence[bytes]
    output_count: int
    caller: Caller

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        script = self.script
        script.backend.limit_threads()
        try:
            # Not inference_mode, as for models: a script is any code, and may do what that forbids.
            with script.torch.no_grad(), _running_call(self):
                tensors = [to_tensor(script.torch, array, script.device) for array in arrays]
                answer = script.call(self.function, tensors, self.keys, self.arguments)
            return self._outputs(answer)
        except ModelRunError:
            raise
        except Exception as error:
            # PyTorch names the kind of an error from Python twice, and then lines of the engine's own source.
            text = (
                str(error).partition("\n\nAt:\n")[0].replace("RuntimeError: RuntimeError: ", "RuntimeError: ").strip()
            )
            raise ModelRunError(text or type(error).__name__) from error

    def _outputs(self, answer: Any) -> Outputs:
        if not self.output_count:
            return []
        values = list(answer) if isinstance(answer, tuple | list) else [answer]
        arrays = [to_array(self.script.torch, value, i) for i, value in enumerate(values)]
        if any(array is None for array in arrays):
            raise ModelRunError(texts.FUNCTION_NO_TENSOR % self.function)
        if len(arrays) != self.output_count:
            raise ModelRunError(texts.FUNCTION_OUTPUTS % self.function)
        return arrays


# The call that a thread carries out


class _Running(threading.local):
    call: ScriptCall | None = None


_running = _Running()


@contextmanager
def _running_call(call: ScriptCall) -> Iterator[None]:
    _running.call = call
    try:
        yield
    finally:
        _running.call = None


def _present_call() -> ScriptCall:
    if _running.call is None:  # torch.jit.fork's threads are PyTorch's own
        raise RuntimeError("redis and redisAI can be used only in the thread that the script began in")
    return _running.call


# The names that a script knows


class _Namespace(types.ModuleType):
    """
    A module made up for scripts, since PyTorch looks names up in modules; it has what `find` finds and nothing else.

    What every module has must not be found: PyTorch would compile Python's own classes then, and having failed it shows
    parts of that script in the errors of the next ones.
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
    """Gives the function that finds what a script may use of `torch`: operators, and constants such as `float32`."""
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
    """Gives the function that finds what a name in a script means; letter case doesn't matter to RedisAI."""
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
    """The functions that a script's thread comes to when it uses `redis` or `redisAI`."""

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
            raise RuntimeError(f"an output of model {name} is no tensor")
        return [to_tensor(torch, cast(Array, array), call.script.device) for array in answer]

    annotations: dict[Callable[..., Any], dict[str, Any]] = {
        _execute: {"command": str, "arguments": list[str], "return": Any},
        _as_list: {"reply": Any, "return": list[Any]},
        model_execute: {"name": str, "inputs": list[torch.Tensor], "outputs": int, "return": list[torch.Tensor]},
    }
    for function, types_ in annotations.items():
        function.__annotations__ = types_  # PyTorch wants types, not their names
    return {function.__name__.lstrip("_"): torch.jit.ignore(function) for function in annotations}


def _execute(command: str, arguments: list[str]) -> Any:
    reply = _present_call().caller.command([word.encode() for word in (command, *arguments)])
    if isinstance(reply, ReplyError):
        raise RuntimeError(texts.SCRIPT_REDIS_ERROR % reply.text)
    return _script_value(reply)


def _script_value(reply: Value) -> Any:
    """Gives Redis' reply as a script sees it: text, integers, None, and arrays of these for redis.asList."""
    if isinstance(reply, list):
        values = [_script_value(value) for value in reply]
        # PyTorch finds out the type of a list only if all is of one, and of a tuple always.
        return values if values and all(isinstance(value, str) for value in values) else tuple(values)
    if isinstance(reply, ReplyError):
        return reply.text
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, float):
        return f"{reply:.17g}"  # text, as RESP2 has it
    return None if reply is None else int(reply)


def _as_list(reply: Any) -> list[Any]:
    if not isinstance(reply, list | tuple):
        raise RuntimeError(f"redis.asList takes an array that Redis replied, not {reply!r}")
    return list(reply)
