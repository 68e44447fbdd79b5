"""The Python model behind Triton's Python backend, which nvidia-pytriton brings: `python triton_python_app.py`."""

import os

import numpy as np
from python_model import Loaded
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


class Linear:
    def __init__(self) -> None:
        self.model = None

    def __call__(self, requests):
        if self.model is None:
            self.model = Loaded()
        return [{"answer": self.model.predict(request["x"])} for request in requests]


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    ports = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
    with Triton(config=ports) as triton:
        triton.bind(
            model_name="linear",
            infer_func=[Linear() for _ in range(int(os.environ["BENCH_WORKERS"]))],
            inputs=[Tensor(name="x", dtype=np.float64, shape=(-1, 4))],
            outputs=[Tensor(name="answer", dtype=np.float64, shape=(-1,))],
            config=ModelConfig(batching=False),
        )
        triton.serve()
