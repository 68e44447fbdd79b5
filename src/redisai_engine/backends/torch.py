"""
Runs TorchScript models with PyTorch.

Inputs are the arguments of `forward`; outputs have no names, their number is that of its return type. A model gets
copies of its inputs, because TorchScript may write into them. PyTorch can't stop a run.
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

_FILE_OPERATORS = ("aten::save", "aten::from_file")  # the only ones of PyTorch's that open files


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
                # RedisAI's format is TorchScript, which new versions of torch deprecate.
                warnings.simplefilter("ignore", DeprecationWarning)
                module = self.torch.jit.load(io.BytesIO(blob), map_location=target)
            module.eval()
            schema = module.forward.schema
            graph = str(module.inlined_graph)
        except Exception as error:
            raise ModelLoadError(str(error)) from error
        for operator in _FILE_OPERATORS:
            if operator in graph:
                raise ModelLoadError(f"ERR the model calls {operator}, which would reach the engine's files")
        return TorchModel(self, module, schema, target)

    def device(self, device: str) -> Any:
        """Gives PyTorch's device for RedisAI's name. Raises DeviceUnavailable."""
        kind, index = parse_device(device)
        if kind != "GPU":
            return self.torch.device("cpu")
        if index >= self.torch.cuda.device_count():
            raise DeviceUnavailable("GPU requested but Torch couldn't find CUDA")
        return self.torch.device("cuda", index)

    def set_threads(self, settings: BackendSettings) -> None:
        """PyTorch's numbers of threads are the process's, and may be set only before its first run."""
        if self._threads_set:
            return
        self._threads_set = True
        if settings.intra_op_threads:
            self.torch.set_num_threads(settings.intra_op_threads)
        if settings.inter_op_threads:
            self.torch.set_num_interop_threads(settings.inter_op_threads)

    def limit_threads(self) -> None:
        """
        Has the calling thread, in which something is about to run, keep to the number of threads that was set.

        PyTorch tells OpenMP and MKL only when a thread first asks for the number. Without that a matrix product in
        another thread than the one that set it takes all cores: 6 ms instead of 0.6 on a machine with others to serve.
        """
        if not hasattr(self._limited, "asked"):
            self.torch.get_num_threads()
            self._limited.asked = True


class TorchModel(LoadedModel):
    """A script module on its device."""

    def __init__(self, backend: TorchBackend, module: Any, schema: Any, device: Any) -> None:
        self.inputs = tuple(argument.name for argument in schema.arguments[1:])  # the first is the module itself
        self.outputs = ("",) * _output_count(schema.returns)
        # A loop's length may depend on values. On a GPU the time on the processor says nothing.
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
    """Copies an array to a tensor on the device. Raises ModelRunError for text."""
    if array.dtype == object:
        raise ModelRunError("Unsupported code 7")  # RedisAI's words for text
    return torch.from_numpy(np.array(array, order="C")).to(device)


def to_array(torch: Any, value: Any, index: int) -> Array | None:
    """Gives the array of an output, in a type that RedisAI has; None for what isn't a tensor."""
    if not isinstance(value, torch.Tensor):
        return None
    tensor = value.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()  # numpy has no such type; FLOAT holds all its values
    return widen(tensor.numpy(), str(index))


def _output_count(returns: Sequence[Any]) -> int:
    """Counts outputs by the return type. Raises ModelLoadError for one that leaves the number open."""
    kinds = [str(value.type) for value in returns]
    if len(kinds) == 1 and kinds[0].startswith("Tuple["):
        kinds = [str(element) for element in returns[0].type.elements()]
    if any(kind.startswith(("List[", "Dict[")) for kind in kinds):
        # RedisAI's words, its spelling too.
        raise ModelLoadError("Erorr while trying to retrive model outputs number: std::exception")
    return len(kinds)
