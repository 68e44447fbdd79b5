"""TensorFlow's types, text and errors in the plugin's form, and the error if the package is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlflow.models import Model

from mlflow_redisai.deploy.choice import choose_flavor, convert
from mlflow_redisai.errors import MissingConverter
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.models.tensorflow.call import reason, to_tensor, to_text
from redisai_engine.protocol import dtypes
from support.packages import without


@pytest.mark.parametrize("flavor", ["keras", "tensorflow"])
def test_without_tensorflow_the_error_says_what_to_install(flavor: str, tmp_path: Path) -> None:
    meta = Model()
    meta.add_flavor(flavor, data="data", model_type="keras")
    meta.save(str(tmp_path / "MLmodel"))

    with open_model(str(tmp_path)) as model, without("tensorflow"), pytest.raises(MissingConverter) as raised:
        convert(model, flavor=choose_flavor(model))

    assert raised.value.message == (
        f"deploying the flavor {flavor} needs tensorflow, which isn't installed; "
        'pip install "mlflow-redisai[tensorflow]"'
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("Exception encountered when calling Dense.\n\nInput 0 is incompatible.\n", "Input 0 is incompatible"),
        ('in user code:\n  File "a.py", line 3\n    shapes differ Received args: (1, 2)', "shapes differ"),
        ("model.tflite:12:3: error: no such operator", "no such operator"),
        ("", "ValueError"),
    ],
)
def test_of_a_long_error_the_line_that_says_what_is_wrong_is_told(error: str, told: str) -> None:
    assert reason(ValueError(error)) == told


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.ones(2, np.float16), dtypes.FLOAT),
        (np.ones(2, np.uint32), dtypes.INT64),
        (np.ones(2, np.uint64), dtypes.INT64),
        (np.ones(2, np.float64), dtypes.DOUBLE),
        (np.array([b"gr\xc3\xbcn", b""], object), dtypes.STRING),
    ],
)
def test_types_that_redisai_lacks_become_the_next_that_holds_them(given: np.ndarray, dtype: dtypes.DType) -> None:
    assert to_tensor(given).dtype is dtype


def test_bytes_become_text_and_stay_in_their_shape() -> None:
    given = np.array([[b"gr\xc3\xbcn"], [b"\xff"]], object)

    assert to_text(given).tolist() == [["gr\u00fcn"], ["\ufffd"]]
