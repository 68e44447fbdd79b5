"""The model behind Ray Serve: `python ray_app.py`."""

import os
import threading

import numpy as np
import onnxruntime
from ray import serve
from starlette.requests import Request


@serve.deployment
class Tiny:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"])
        self.name = self.session.get_inputs()[0].name

    async def __call__(self, request: Request) -> dict:
        rows = np.asarray((await request.json())["inputs"], np.float32)
        return {"outputs": self.session.run(None, {self.name: rows})[0].tolist()}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Tiny.bind(), route_prefix="/predict")
    threading.Event().wait()
