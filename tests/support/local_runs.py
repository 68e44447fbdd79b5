"""Saves models with MLflow, converts them, and runs the result with ONNX Runtime in this process."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.deploy.choice import choose_flavor, convert
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.graph import runner
from mlflow_redisai.models.loading import MlflowModel, open_model
from mlflow_redisai.models.trials.independence import measured
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import Run, predict
from support.flavors_seen import seen


@dataclass
class Deployed:
    """A converted model as a server would hold it: the blob, and the mapping read back from its JSON."""

    model: MlflowModel
    deployable: Deployable
    mapping: Mapping
    run: Run

    def predict(self, inputs: Any) -> Any:
        return predict(self.run, self.mapping, inputs)[0]

    def expected(self, inputs: Any) -> Any:
        """Return what the original model answers, through mlflow.pyfunc."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.model.pyfunc().predict(inputs)

    def assert_equals_pyfunc(self, inputs: Any, *, within: float | None = None) -> None:
        """
        Fail unless the answer equals pyfunc's: labels exactly, numbers within the model's tolerance or a smaller one.
        """
        __tracebackhide__ = True
        difference = self._difference(inputs)
        if within is not None:
            assert difference is not None, "there are no numbers in the answer"
            assert difference < within, f"the largest difference is {difference:.3g}, wanted is one below {within:g}"

    def assert_equals_pyfunc_exactly(self, inputs: Any) -> None:
        """Fail unless the answer equals pyfunc's to the last bit, as labels must."""
        __tracebackhide__ = True
        difference = self._difference(inputs)
        assert not difference, f"the largest difference is {difference:.3g}, wanted is none"

    def _difference(self, inputs: Any) -> float | None:
        """
        Return the largest difference between numbers, or None if there are no numbers.

        Fail if the answers differ.
        """
        __tracebackhide__ = True
        try:
            found = compare(self.expected(inputs), self.predict(inputs), tolerance_of(self.mapping))
        except Difference as difference:
            pytest.fail(f"the {self.deployable.flavor} model answers differently from pyfunc: {difference}")
        seen(self.deployable.flavor, found)
        return found


# More than every server loads: trees in float64.
LIMITS = ServerLimits(ml_opset=3)


def deploy(path: Path, flavor: str | None = None, *, limits: ServerLimits = LIMITS, **options: Any) -> Deployed:
    model = open_model(str(path))
    deployable = convert(model, flavor=choose_flavor(model, flavor), limits=limits, **options)
    deployable = measured(deployable, model.input_example, "the test's model")
    mapping = Mapping.from_json(deployable.mapping.to_json())
    return Deployed(model, deployable, mapping, runner(deployable.blob, mapping.fetch, "the test's model"))


def save_sklearn(path: Path, estimator: Any, inputs: Any, *, example_rows: int = 3, **options: Any) -> Path:
    """
    Save with a signature and an input example, as users should.

    `options` are passed to mlflow.sklearn.save_model.
    """
    import mlflow.sklearn
    from mlflow.models import infer_signature

    options.setdefault("signature", infer_signature(inputs))
    # skops, MLflow's default, requires that trees and functions are declared as trusted one by one.
    options.setdefault("serialization_format", "cloudpickle")
    if example_rows:
        options.setdefault("input_example", inputs[:example_rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(estimator, str(path), pip_requirements=[], **options)
    return path


def save_onnx(path: Path, proto: Any, **options: Any) -> Path:
    import mlflow.onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.onnx.save_model(proto, str(path), pip_requirements=[], **options)
    return path


def mixed_frame() -> tuple[pd.DataFrame, np.ndarray]:
    """Return the wine data with text, integers, booleans and gaps among its columns, and the class as text."""
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    wine = data.data
    frame = wine[["alcohol", "malic_acid"]].copy()
    frame["malic_acid"] = frame["malic_acid"].where(np.arange(len(frame)) % 7 != 0)
    frame["proline"] = wine["proline"].astype(int)
    frame["colour"] = pd.cut(wine["color_intensity"], 4, labels=["pale", "light", "mid", "deep"]).astype(str)
    frame["grade"] = pd.cut(wine["hue"], 3, labels=[1, 2, 3]).astype(int)
    frame["aged"] = wine["ash"] > 2.4
    return frame, np.array(data.target_names)[data.target]
