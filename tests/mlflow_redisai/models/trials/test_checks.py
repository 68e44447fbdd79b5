"""A conversion is compared with the model itself, on pyfunc's answer and on outputs that the user chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.trials.checks import checked, probes, with_outputs
from mlflow_redisai.models.trials.edges import NO_EDGES
from mlflow_redisai.models.trials.rows import Huge, batches
from redisai_engine.codec.mapping import Field, Mapping, Output, Schema
from redisai_engine.protocol import dtypes
from support.local_runs import Deployed, deploy, save_sklearn

DATA = load_iris(as_frame=True)
ESTIMATOR = LogisticRegression(max_iter=500).fit(DATA.data, DATA.target)


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return deploy(save_sklearn(tmp_path / "model", ESTIMATOR, DATA.data))


def own(outputs: Sequence[Output]) -> Reference:
    """Return the estimator's own answers for the only output that the tests choose."""
    assert [output.name for output in outputs] == ["probabilities"]
    return Reference("the estimator's own predict_proba", ESTIMATOR.predict_proba)


def with_turned_probabilities(deployable: Deployable) -> Deployable:
    """Return the same graph with the probabilities of the first and the last class swapped."""
    proto = onnx.load_from_string(deployable.blob)
    for node in proto.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = "inner" if name == "probabilities" else name
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    proto.graph.node.append(helper.make_node("Gather", ["inner", "order"], ["probabilities"], axis=1))
    return replace(deployable, blob=proto.SerializeToString())


def test_a_graph_whose_chosen_output_is_wrong_is_refused_though_its_labels_are_right(deployed: Deployed) -> None:
    wrong = with_turned_probabilities(deployed.deployable)

    assert checked(wrong, [DATA.data], "the test's model").tried == len(DATA.data)
    with pytest.raises(NotConvertible, match="model answers differently after conversion to ONNX: the largest diff"):
        with_outputs(wrong, ["probabilities"], own, [DATA.data], "the test's model")


def test_a_graph_whose_chosen_output_is_right_answers_with_it(deployed: Deployed) -> None:
    chosen = with_outputs(deployed.deployable, ["probabilities"], own, [DATA.data], "the test's model")

    assert chosen.reference.kind == "the estimator's own predict_proba"
    assert [part.name for part in chosen.mapping.answer.parts] == ["probabilities"]


def test_without_a_reference_nothing_is_compared(deployed: Deployed) -> None:
    nobody = NoReference("nobody knows")
    wrong = replace(with_turned_probabilities(deployed.deployable), reference=nobody)

    assert checked(wrong, [DATA.data], "the test's model") == replace(wrong, tried=0, sample=None)
    assert with_outputs(wrong, ["probabilities"], lambda _: nobody, [DATA.data], "").reference is nobody


def test_input_that_the_model_itself_refuses_says_nothing(deployed: Deployed) -> None:
    gaps = DATA.data.mask(DATA.data > 3)

    chosen = with_outputs(deployed.deployable, ["probabilities"], own, [gaps, DATA.data], "the test's model")

    assert isinstance(chosen.reference, Reference)


def test_probes_are_what_the_model_answers_and_gaps_are_marked(deployed: Deployed) -> None:
    """A logistic regression refuses NaN."""
    assert deployed.mapping.schema is not None
    reference = Reference("the estimator's own predict", ESTIMATOR.predict)

    schema, found = probes(reference, deployed.mapping.schema, DATA.data[:2], NO_EDGES)

    assert [len(rows) for rows in found[:3]] == [2, 48, 1003]
    assert not any(field.gaps for field in schema.fields)
    assert all(len(ESTIMATOR.predict(each.rows if isinstance(each, Huge) else each)) for each in found)


class TestHugeNumbers:
    """A conversion that differs only far beyond what the model was made for refuses such numbers."""

    def probe(self, size: float, below: float | None) -> Huge:
        return Huge(DATA.data.assign(**{"petal length (cm)": size}), size, below)

    def test_they_are_refused_from_the_size_on_at_which_answers_differ(self, deployed: Deployed) -> None:
        wrong = with_turned_probabilities(deployed.deployable)
        probes = [self.probe(1e20, 1e10), self.probe(1e30, 1e20)]

        found = with_outputs(wrong, ["probabilities"], own, probes, "the test's model")

        assert found.mapping.schema is not None
        assert {(field.largest, field.infinite) for field in found.mapping.schema.fields} == {(1e10, False)}
        assert found.tried == 0
        [note] = found.notes
        assert note.startswith("numbers beyond 1e+10 are refused, because for these the test's model answers diff")

    def test_those_that_are_answered_alike_are_accepted(self, deployed: Deployed) -> None:
        found = checked(deployed.deployable, [self.probe(1e20, 1e10)], "the test's model")

        assert found.mapping.schema is not None
        assert {field.largest for field in found.mapping.schema.fields} == {None}
        assert found.tried == len(DATA.data)

    def test_smaller_ones_are_the_models_fault(self, deployed: Deployed) -> None:
        wrong = with_turned_probabilities(deployed.deployable)

        with pytest.raises(NotConvertible):
            with_outputs(wrong, ["probabilities"], own, [self.probe(1e20, 1e10), DATA.data], "the test's model")

    def test_whole_ones_limit_columns_of_integers_only(self, tmp_path: Path) -> None:
        frame = DATA.data.assign(**{"petal length (cm)": np.arange(len(DATA.data))})
        estimator = LogisticRegression(max_iter=9000).fit(frame, DATA.target)
        deployed = deploy(save_sklearn(tmp_path / "whole", estimator, frame))
        before = deployed.mapping.schema
        probe = Huge(frame.assign(**{"petal length (cm)": 2**53}), 2.0**53, 2.0**31, whole=True)

        found = with_outputs(
            with_turned_probabilities(deployed.deployable),
            ["probabilities"],
            lambda _: Reference("the estimator's own predict_proba", estimator.predict_proba),
            [probe],
            "the test's model",
        )

        schema = Mapping.from_json(found.mapping.to_json()).schema
        assert schema is not None
        assert before is not None
        assert schema.fields[2] == replace(before.fields[2], largest=2.0**31)
        assert [schema.fields[index] for index in (0, 1, 3)] == [before.fields[index] for index in (0, 1, 3)]
        [note] = found.notes
        assert note.startswith("whole numbers beyond 2.14748e+09 are refused, because for these the test's model")


def test_rows_with_huge_whole_numbers_are_told_from_those_that_the_model_is_made_for() -> None:
    schema = Schema("columns", (Field("n", "long", dtypes.INT64), Field("x", "double", dtypes.DOUBLE)))

    found = [rows for rows in batches(schema, None, NO_EDGES) if isinstance(rows, Huge) and rows.whole]

    assert [(rows.size, rows.below) for rows in found][-1] == (2.0**53 + 1, 2.0**31)
