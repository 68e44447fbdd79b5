"""Whether rows depend on each other is seen in the model's own answers to rearranged rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper

from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.trials.independence import NOTE, measured
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Mapping
from support.local_runs import deploy, save_onnx
from support.mappings import unnamed
from support.onnx_models import graph_model, tensor

Rows = np.ndarray


def judged(answer: Callable[[Rows], Any], mapping: Mapping | None = None) -> bool:
    deployable = Deployable("onnx", "ONNX", b"", mapping or unnamed(), Reference("the function", answer))

    found = measured(deployable, None, "the test's model")

    assert found.notes == (() if found.mapping.independent else (NOTE,))
    return found.mapping.independent


INDEPENDENT: dict[str, Callable[[Rows], Any]] = {
    "sums": lambda rows: rows.sum(1),
    "dict": lambda rows: {"a": rows * 2, "b": rows[:, 0]},
    "frame": pd.DataFrame,
    "list of outputs": lambda rows: [rows, rows[:, :1]],
    "list of rows": lambda rows: [{"yes": float(row[0])} for row in rows],
    "text": lambda rows: np.where(rows[:, 0] > 0, "yes", "no"),
}

DEPENDENT: dict[str, Callable[[Rows], Any]] = {
    "share of the whole": lambda rows: rows[:, 0] / np.abs(rows[:, 0]).sum(),
    "normalized over rows": lambda rows: (rows - rows.mean(0)) / (1 + rows.std(0)),
    "sum so far": lambda rows: rows.cumsum(0),
    "difference to the row before": lambda rows: rows - np.roll(rows, 1, 0),
    "rank": lambda rows: rows[:, 0].argsort().argsort(),
    "best row": lambda rows: np.where(rows[:, 0] == rows[:, 0].max(), "best", "other"),
    "number of rows": lambda rows: rows * len(rows),
    "one answer for all": lambda rows: rows.sum(0),
    "position": lambda rows: rows + np.arange(len(rows))[:, None],
    "one output of two": lambda rows: {"a": rows, "b": rows - rows.mean(0)},
}


@pytest.mark.parametrize("batch", [None, 4], ids=["any number of rows", "four at a time"])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_that_are_answered_alike_in_any_company_are_independent(name: str, batch: int | None) -> None:
    assert judged(INDEPENDENT[name], unnamed(batch=batch))


@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_whose_answers_change_with_the_others_are_not(name: str) -> None:
    assert not judged(DEPENDENT[name])


@pytest.mark.parametrize("name", [name for name in DEPENDENT if name != "number of rows"])
def test_nor_in_a_fixed_batch(name: str) -> None:
    assert not judged(DEPENDENT[name], unnamed(batch=4))


def test_rounding_of_float32_is_no_dependency() -> None:
    """BLAS adds up in another order for another number of rows."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(2, 3))

    def answer(rows: Rows) -> Rows:
        return (rows @ weights * (1 + 1e-7 * len(rows))).astype(np.float32)

    assert judged(answer)


def test_a_model_that_refuses_single_rows_is_judged_by_the_others() -> None:
    def answer(rows: Rows) -> Rows:
        if len(rows) == 1:
            raise ValueError("too few rows")
        return rows.sum(1)

    assert judged(answer)


def test_without_answers_of_its_own_the_graph_is_asked() -> None:
    proto = softmax_over_rows()
    mapping = replace(unnamed(), inputs=(replace(unnamed().inputs[0], name="x"),))
    deployable = Deployable("onnx", "ONNX", proto.SerializeToString(), mapping, NoReference("there is none"))

    assert not measured(deployable, None, "the test's model").mapping.independent


def softmax_over_rows() -> Any:
    ends = [tensor(name, TensorProto.DOUBLE, [None, 2]) for name in "xy"]
    return graph_model([helper.make_node("Softmax", ["x"], ["y"], axis=0)], ends[:1], ends[1:])


def test_a_deployed_model_answers_for_all_rows_at_once_or_not_at_all(tmp_path: Path) -> None:
    from mlflow.models import infer_signature

    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    ends = [tensor(name, TensorProto.FLOAT, [None, 2]) for name in "xy"]
    proto = graph_model([helper.make_node("Softmax", ["x"], ["y"], axis=0)], ends[:1], ends[1:])
    path = save_onnx(tmp_path / "m", proto, signature=infer_signature(rows), input_example=rows[:1])

    deployed = deploy(path)

    assert NOTE in deployed.deployable.notes
    deployed.assert_equals_pyfunc(rows)
    from redisai_engine.codec.encoder import Encoder
    from redisai_engine.codec.prediction import split

    with pytest.raises(InputMismatch, match="can't be sent apart"):
        split(Encoder(deployed.mapping).encode(rows), deployed.mapping, max_rows=49)
