"""The model behind BentoML: `bentoml serve bentoml_app:Tiny`."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service
class Tiny:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"])
        self.name = self.session.get_inputs()[0].name

    @bentoml.api
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.name: inputs.astype(np.float32)})[0]
