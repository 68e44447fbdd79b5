"""
The TORCH backend, which runs TorchScript models with PyTorch.

The inputs are the arguments of `forward`. Outputs have no names; their number follows from the return type. A model
gets copies of its inputs, because TorchScript may write into them. PyTorch can't stop a run.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array, Backend, BackendSettings, LoadedModel, Outputs, parse_device, widen
from redisai_engine.errors import DeviceUnavailable, ModelLoadError, ModelRunError

_FILE_OPERATORS = ("aten::save", "aten::from_file")  # the only operators of PyTorch that open files

_RUNS_TO_OPTIMIZE = 3  # the first two are observed


class TorchBackend(Backend):
    """PyTorch, on the CPU or a CUDA device."""

    name = "TORCH"

    def __init__(self) -> None:
        import torch

        self.torch: Any = torch
        self._threads_set = False
        self._limited = threading.local()
        self.version = str(torch.__version__)

    def load(
        self, blob: bytes, device: str, *, inputs: Sequence[str], outputs: Sequence[str], settings: BackendSettings
    ) -> LoadedModel:
        target = self.device(device)
        self.set_threads(settings)
        try:
            with warnings.catch_warnings():
                # RedisAI's format is TorchScript, which newer versions of torch deprecate.
                warnings.simplefilter("ignore", DeprecationWarning)
                module = self.torch.jit.load(io.BytesIO(blob), map_location=target)
            module.eval()
            schema = module.forward.schema
            graph = str(module.inlined_graph)
        except Exception as error:
            raise ModelLoadError(str(error)) from error
        for operator in _FILE_OPERATORS:
            if operator in graph:
                raise ModelLoadError(f"ERR the model calls {operator}, which could access the engine's files")
        return TorchModel(self, module, schema, target)

    def warm_up(self) -> None:
        torch = self.torch
        torch.set_num_threads(1)  # no other thread may run when a host is forked
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore", DeprecationWarning)
            buffer = io.BytesIO()
            torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())), buffer)
            module = torch.jit.load(io.BytesIO(buffer.getvalue())).eval()
            for _ in range(_RUNS_TO_OPTIMIZE):
                module(torch.zeros(1, 1))

    def device(self, device: str) -> Any:
        """Return PyTorch's device for RedisAI's name, such as "CPU" or "GPU:1". Raise DeviceUnavailable."""
        kind, index = parse_device(device)
        if kind != "GPU":
            return self.torch.device("cpu")
        count = self.torch.cuda.device_count()
        if not count:
            raise DeviceUnavailable("GPU requested but Torch couldn't find CUDA")
        if index >= count:
            raise DeviceUnavailable(f"ERR PyTorch can't use device {device}: it has found {count}, counted from GPU:0")
        return self.torch.device("cuda", index)

    def set_threads(self, settings: BackendSettings) -> None:
        """Set PyTorch's numbers of threads once: they hold for the process and can be set only before the first run."""
        if self._threads_set:
            return
        self._threads_set = True
        if settings.intra_op_threads:
            self.torch.set_num_threads(settings.intra_op_threads)
        if settings.inter_op_threads:
            self.torch.set_num_interop_threads(settings.inter_op_threads)

    def limit_threads(self) -> None:
        """
        Make PyTorch respect the configured number of threads for runs in the calling thread. Call it before a run.

        PyTorch passes the number on to OpenMP and MKL only when a thread first asks for it. Without that, a matrix
        product takes all cores in any thread but the one that set the number: 6 ms instead of 0.6 ms on a busy machine.
        """
        if not hasattr(self._limited, "asked"):
            self.torch.get_num_threads()
            self._limited.asked = True


class TorchModel(LoadedModel):
    """A script module on its device."""

    def __init__(self, backend: TorchBackend, module: Any, schema: Any, device: Any) -> None:
        self.inputs = tuple(argument.name for argument in schema.arguments[1:])  # the first is the module itself
        self.outputs = ("",) * _output_count(schema.returns)
        # The length of a loop may depend on values. On a GPU, the time measured on the CPU says nothing.
        self.steady = device.type == "cpu" and "prim::Loop" not in str(module.inlined_graph)
        self._backend = backend
        self._torch = backend.torch
        self._forward = module.forward
        self._device = device

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        self._backend.limit_threads()
        try:
            with self._torch.inference_mode():
                answer = self._forward(*[to_tensor(self._torch, array, self._device) for array in arrays])
                values = answer if isinstance(answer, tuple) else (answer,)
                return [to_array(self._torch, value, i) for i, value in enumerate(values)]
        except ModelRunError:
            raise
        except Exception as error:
            raise ModelRunError(str(error).strip() or type(error).__name__) from error


def to_tensor(torch: Any, array: Array, device: Any) -> Any:
    """Copy an array to a tensor on the device. Raise ModelRunError for text."""
    if array.dtype == object:
        raise ModelRunError("Unsupported code 7")  # RedisAI's text
    return torch.from_numpy(np.array(array, order="C")).to(device)


def to_array(torch: Any, value: Any, index: int) -> Array | None:
    """
    Return output `index` as an array of a type that RedisAI has, or None if it isn't a tensor.

    Raise ModelRunError if RedisAI has no such type.
    """
    if not isinstance(value, torch.Tensor):
        return None
    tensor = value.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()  # NumPy lacks bfloat16; FLOAT holds all its values
    return widen(tensor.numpy(), str(index))


def _output_count(returns: Sequence[Any]) -> int:
    """Return the number of outputs by the return type. Raise ModelLoadError for a type that leaves the number open."""
    kinds = [str(value.type) for value in returns]
    if len(kinds) == 1 and kinds[0].startswith("Tuple["):
        kinds = [str(element) for element in returns[0].type.elements()]
    if any(kind.startswith(("List[", "Dict[")) for kind in kinds):
        # RedisAI's text, misspelled as in RedisAI.
        raise ModelLoadError("Erorr while trying to retrive model outputs number: std::exception")
    return len(kinds)
