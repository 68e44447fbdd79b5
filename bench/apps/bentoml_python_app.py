"""The Python model behind BentoML: `bentoml serve bentoml_python_app:Linear`."""

import os

import bentoml
import numpy as np
from python_model import Loaded


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]))
class Linear:
    def __init__(self) -> None:
        self.model = Loaded()

    @bentoml.api
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.model.predict(inputs)
