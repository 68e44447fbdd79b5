"""The Python model that all servers of a PythonModel's comparison load, and how a row of numbers becomes its input."""

import os

import mlflow.pyfunc
import pandas as pd

COLUMNS = ["a", "b", "c", "d"]


class Loaded:
    def __init__(self) -> None:
        self._model = mlflow.pyfunc.load_model(os.environ["BENCH_MODEL"])

    def predict(self, rows):
        return self._model.predict(pd.DataFrame(rows, columns=COLUMNS))
