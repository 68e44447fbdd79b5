"""ONNX models as users log them must answer as mlflow.pyfunc does, in the same container."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import ColSpec, Schema, TensorSpec
from onnx import TensorProto, helper, numpy_helper

from mlflow_redisai import RedisAIClient
from mlflow_redisai.deploy.choice import choose_flavor, convert
from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.protocol import dtypes
from support.local_runs import deploy, save_onnx
from support.onnx_models import four_rows, graph_model, regression_model, tensor, unusual_types, wine, wine_model


def large_product() -> tuple[onnx.ModelProto, np.ndarray]:
    """Return a matrix product, and its matrix, which is so large that MLflow may store it in a separate file."""
    weights = np.random.default_rng(1).normal(size=(64, 512)).astype(np.float32)
    proto = graph_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, [None, 64])],
        [tensor("y", TensorProto.FLOAT, [None, 512])],
        weights=(numpy_helper.from_array(weights, "w"),),
    )
    return proto, weights


class TestContainers:
    """As in MLflow's flavor onnx, a frame is answered with a frame, and other input with a dict of arrays."""

    def test_a_frame_gives_a_frame(self, tmp_path: Path) -> None:
        frame, _ = wine()
        frame = frame.astype("float32")
        path = save_onnx(tmp_path / "m", regression_model(), signature=infer_signature(frame), input_example=frame[:2])

        deployed = deploy(path)

        answer = deployed.predict(frame)
        assert isinstance(answer, pd.DataFrame)
        pd.testing.assert_frame_equal(answer, deployed.expected(frame), rtol=1e-5)

    def test_an_array_gives_a_dict(self, tmp_path: Path) -> None:
        frame, _ = wine()
        array = frame.to_numpy(np.float32)
        options = {"options": {"zipmap": False}}
        path = save_onnx(tmp_path / "m", wine_model(**options), signature=infer_signature(array))

        deployed = deploy(path)

        assert list(deployed.predict(array)) == ["label", "probabilities"]
        deployed.assert_equals_pyfunc(array)

    @pytest.mark.parametrize("kind", ["frame", "array", "dict"])
    def test_without_signature_the_answer_follows_the_input(self, kind: str, tmp_path: Path) -> None:
        frame, _ = wine()
        array = frame.to_numpy(np.float32)
        inputs = {"frame": frame, "array": array, "dict": {"X": array}}[kind]
        deployed = deploy(save_onnx(tmp_path / "m", regression_model()))

        assert type(deployed.predict(inputs)) is type(deployed.expected(inputs))
        deployed.assert_equals_pyfunc(inputs)

    def test_outputs_that_make_no_frame_stay_arrays(self, tmp_path: Path) -> None:
        """MLflow itself fails on labels and a matrix of probabilities, because the columns differ in length."""
        frame, _ = wine()
        frame = frame.astype("float32")
        path = save_onnx(tmp_path / "m", wine_model(options={"zipmap": False}), signature=infer_signature(frame))
        deployed = deploy(path)

        answer = deployed.predict(frame)

        assert answer["probabilities"].shape == (len(frame), 3)
        with pytest.raises(ValueError, match="same length"):
            deployed.expected(frame)

    def test_an_example_that_pyfunc_itself_refuses(self, tmp_path: Path) -> None:
        """Then the reference is the file as it was logged, run on this machine, and a note says so."""
        frame, _ = wine()
        frame = frame.astype("float32")
        proto = wine_model(options={"zipmap": False})
        path = save_onnx(tmp_path / "m", proto, signature=infer_signature(frame), input_example=frame[:3])

        deployed = deploy(path)

        found = verify(deployed.run, deployed.deployable, deployed.model)
        assert (found.status, found.reference) == ("passed", "ONNX Runtime on the original file")
        [note] = deployed.deployable.notes
        assert note == (
            "mlflow.pyfunc fails on this model's input example (All arrays must be of the same length); "
            "the deployed model answers as the original file does"
        )

    @pytest.mark.parametrize("kind", ["frame", "array"])
    def test_a_zipmap_gives_dicts_by_label(self, kind: str, tmp_path: Path) -> None:
        """skl2onnx ends a classifier with a ZipMap by default. No tensor can hold dicts, so the plugin makes them."""
        frame, _ = wine()
        inputs = frame.astype("float32") if kind == "frame" else frame.to_numpy(np.float32)
        path = save_onnx(tmp_path / "m", wine_model(), signature=infer_signature(inputs), input_example=inputs[:2])

        deployed = deploy(path)

        first = next(iter(deployed.predict(inputs)["output_probability"]))
        assert list(first) == [0, 1, 2]
        deployed.assert_equals_pyfunc(inputs)
        assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"


class TestInputs:
    def test_several_inputs_by_name(self, tmp_path: Path) -> None:
        deployed = deploy(save_onnx(tmp_path / "m", self.two_inputs(), signature=self.two_tensors()))
        inputs = {"b": np.ones((4, 2), np.float32), "a": np.arange(8, dtype=np.float32).reshape(4, 2)}

        np.testing.assert_array_equal(deployed.predict(inputs)["sum"], inputs["a"] + 1)
        deployed.assert_equals_pyfunc(inputs)

    def test_a_missing_tensor_is_named(self, tmp_path: Path) -> None:
        deployed = deploy(save_onnx(tmp_path / "m", self.two_inputs(), signature=self.two_tensors()))

        with pytest.raises(InputMismatch, match="tensor 'b' is missing; the model's signature has a"):
            deployed.predict({"a": np.ones((1, 2), np.float32)})

    def test_a_list_of_records_is_laid_out_by_name(self, tmp_path: Path) -> None:
        """This is the form of MLflow's `instances` with several inputs."""
        deployed = deploy(save_onnx(tmp_path / "m", self.two_inputs(), signature=self.two_tensors()))

        answer = deployed.predict({"instances": [{"a": [1, 2.5], "b": [1, 1]}, {"a": [3, 4], "b": [0, 0]}]})

        assert answer["sum"].tolist() == [[2, 3.5], [3, 4]]

    def test_a_signature_with_other_names_is_refused(self, tmp_path: Path) -> None:
        signature = ModelSignature(Schema([ColSpec("float", "x"), ColSpec("float", "y")]))

        with pytest.raises(NotConvertible, match="takes a tensor 'a', which its signature doesn't have"):
            deploy(save_onnx(tmp_path / "m", self.two_inputs(), signature=signature))

    def test_text_in_and_out(self, tmp_path: Path) -> None:
        node = helper.make_node("Identity", ["x"], ["y"])
        proto = graph_model(
            [node], [tensor("x", TensorProto.STRING, [None, 2])], [tensor("y", TensorProto.STRING, [None, 2])]
        )
        deployed = deploy(save_onnx(tmp_path / "m", proto))
        words = np.array([["wine", "größer"], ["", "001"]], object)

        assert deployed.predict(words)["y"].tolist() == words.tolist()
        assert deployed.mapping.inputs[0].dtype is dtypes.STRING

    def test_float64_rows_go_to_a_float32_model(self, tmp_path: Path) -> None:
        """MLflow casts them, too, since JSON has only one kind of number."""
        frame, _ = wine()
        deployed = deploy(save_onnx(tmp_path / "m", regression_model(), signature=infer_signature(frame)))

        assert deployed.mapping.inputs[0].dtype is dtypes.FLOAT
        deployed.assert_equals_pyfunc(frame)

    def test_types_that_redisai_lacks_are_cast_inside(self, tmp_path: Path) -> None:
        """float16 is sent as FLOAT, uint32 is received as INT64, and the answer has the model's own types."""
        deployed = deploy(save_onnx(tmp_path / "m", unusual_types()))

        answer = deployed.predict(np.array([1.5, 2], np.float32))

        assert [item.dtype for item in deployed.mapping.outputs] == [dtypes.FLOAT, dtypes.INT64]
        assert (answer["y"].dtype, answer["z"].dtype) == (np.float16, np.uint32)
        assert answer["z"].tolist() == [3, 4]

    @staticmethod
    def two_inputs() -> onnx.ModelProto:
        return graph_model(
            [helper.make_node("Add", ["a", "b"], ["sum"])],
            [tensor("a", TensorProto.FLOAT, [None, 2]), tensor("b", TensorProto.FLOAT, [None, 2])],
            [tensor("sum", TensorProto.FLOAT, [None, 2])],
        )

    @staticmethod
    def two_tensors() -> ModelSignature:
        shape = (-1, 2)
        kind = np.dtype("float32")
        return ModelSignature(Schema([TensorSpec(kind, shape, "a"), TensorSpec(kind, shape, "b")]))


class TestFiles:
    def test_external_data_is_folded_in(self, tmp_path: Path) -> None:
        """MLflow writes large weights into a file next to the model, which a key in Redis can't have."""
        proto, weights = large_product()
        path = save_onnx(tmp_path / "m", proto, save_as_external_data=True)
        assert (path / "model.onnx").stat().st_size < weights.nbytes

        deployed = deploy(path)

        array = np.ones((3, 64), np.float32)
        assert len(deployed.deployable.blob) > weights.nbytes
        np.testing.assert_allclose(deployed.predict(array)["y"], array @ weights, rtol=1e-4, atol=1e-5)

    def test_a_file_that_is_no_model_is_refused(self, tmp_path: Path) -> None:
        path = save_onnx(tmp_path / "m", regression_model())
        next(path.glob("model.onnx")).write_bytes(b"not a protobuf at all")

        with pytest.raises(NotConvertible, match="can't be read"):
            deploy(path)

    def test_a_file_that_is_gone_is_named(self, tmp_path: Path) -> None:
        path = save_onnx(tmp_path / "m", regression_model())
        (path / "model.onnx").unlink()

        with pytest.raises(NotConvertible, match=r"has no file model\.onnx, which its MLmodel names"):
            deploy(path)


class TestVersions:
    """Versions that the server can't load are lowered if that changes nothing, and refused if it would."""

    def test_a_newer_opset_without_newer_operators_is_lowered(self, tmp_path: Path) -> None:
        proto = self.relu(opset=19, ir_version=10)

        deployed = deploy(save_onnx(tmp_path / "m", proto))

        lowered = onnx.load_from_string(deployed.deployable.blob)
        assert (lowered.ir_version, lowered.opset_import[0].version) == (8, 15)
        assert deployed.predict(np.array([-1, 2], np.float32))["y"].tolist() == [0, 2]

    def test_a_newer_operator_is_rewritten_where_onnx_can(self, tmp_path: Path) -> None:
        """ReduceMean takes its axes as an input from opset 18 on."""
        proto = graph_model(
            [helper.make_node("ReduceMean", ["x", "axes"], ["y"])],
            [tensor("x", TensorProto.FLOAT, [None, 4])],
            [tensor("y", TensorProto.FLOAT, [None, 1])],
            opset=18,
            weights=(numpy_helper.from_array(np.array([1]), "axes"),),
        )

        deployed = deploy(save_onnx(tmp_path / "m", proto))

        assert deployed.predict(np.arange(4, dtype=np.float32).reshape(1, 4))["y"].tolist() == [[1.5]]

    def test_an_operator_that_is_too_new_is_named(self, tmp_path: Path) -> None:
        proto = graph_model(
            [helper.make_node("Gelu", ["x"], ["y"])],
            [tensor("x", TensorProto.FLOAT, [None])],
            [tensor("y", TensorProto.FLOAT, [None])],
            opset=20,
        )
        path = save_onnx(tmp_path / "m", proto)

        with pytest.raises(NotConvertible, match=r"uses Gelu of ai\.onnx opset 20, but .* loads at most opset 15"):
            deploy(path)

    def test_a_newer_server_gets_the_model_as_it_is(self, tmp_path: Path) -> None:
        path = save_onnx(tmp_path / "m", self.relu(opset=19, ir_version=9))

        with open_model(str(path)) as model:
            limits = ServerLimits(opset=21, ml_opset=4, ir_version=10)
            blob = convert(model, flavor="onnx", limits=limits).blob

        assert onnx.load_from_string(blob).opset_import[0].version == 19

    @staticmethod
    def relu(**versions: int) -> onnx.ModelProto:
        nodes = [helper.make_node("Relu", ["x"], ["y"])]
        inputs = [tensor("x", TensorProto.FLOAT, [None])]
        return graph_model(nodes, inputs, [tensor("y", TensorProto.FLOAT, [None])], **versions)


class TestFixedBatch:
    """A model that takes four rows at a time answers any number of rows."""

    @pytest.mark.parametrize("rows", [1, 3, 4, 9])
    def test_rows_are_split_and_filled_up(self, rows: int, tmp_path: Path) -> None:
        deployed = deploy(save_onnx(tmp_path / "m", four_rows()))
        array = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)

        np.testing.assert_allclose(deployed.predict(array)["y"], array * 2)
        assert deployed.mapping.batch == 4

    def test_the_user_is_told(self, tmp_path: Path) -> None:
        deployed = deploy(save_onnx(tmp_path / "m", four_rows()))

        assert deployed.deployable.notes[0].startswith("the model takes exactly 4 rows at a time")


class TestOutputs:
    def test_only_those_asked_for_are_fetched(self, tmp_path: Path) -> None:
        frame, _ = wine()
        example = frame[:3].to_numpy(np.float32)
        path = save_onnx(tmp_path / "m", wine_model(options={"zipmap": False}), input_example=example)

        deployed = deploy(path, outputs="probabilities")

        answer = deployed.predict(frame.to_numpy(np.float32))
        found = verify(deployed.run, deployed.deployable, deployed.model)
        assert list(answer) == ["probabilities"]
        assert deployed.mapping.fetch == (1,)
        assert (found.status, found.reference) == ("passed", "ONNX Runtime on the original file")

    def test_an_output_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        path = save_onnx(tmp_path / "m", regression_model())

        with pytest.raises(NotConvertible, match="has no output 'score'; it has variable"):
            deploy(path, outputs="score")

    def test_an_output_that_is_no_tensor_is_refused_unless_others_are_asked_for(self, tmp_path: Path) -> None:
        sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [None])
        proto = graph_model(
            [helper.make_node("SequenceConstruct", ["x"], ["s"]), helper.make_node("Relu", ["x"], ["y"])],
            [tensor("x", TensorProto.FLOAT, [None])],
            [tensor("y", TensorProto.FLOAT, [None]), sequence],
        )
        path = save_onnx(tmp_path / "m", proto)

        with pytest.raises(NotConvertible, match="has 's' of type sequence_type, which RedisAI's tensors"):
            deploy(path)
        assert deploy(path, outputs="y").predict(np.array([-1.0], np.float32))["y"].tolist() == [0]


def test_onnx_is_preferred_to_other_flavors(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "m", regression_model())

    with open_model(str(path)) as model:
        assert choose_flavor(model) == "onnx"


class TestServed:
    """Hard cases of tensors and files, end to end: into a running engine and back."""

    def test_text_in_and_out(self, client: RedisAIClient, tmp_path: Path) -> None:
        # Every machine has this locale.
        options = {"case_change_action": "UPPER", "is_case_sensitive": 1, "locale": "C.UTF-8"}
        node = helper.make_node("StringNormalizer", ["x"], ["y"], **options)
        x, y = (tensor(name, TensorProto.STRING, [None]) for name in "xy")
        proto = graph_model([node], [x], [y])
        words = np.array(["wine", "grün", "001"] * 80, object)
        path = save_onnx(tmp_path / "m", proto, signature=infer_signature({"x": words}), input_example={"x": words[:3]})
        created = client.create_deployment("onnx:text", str(path))

        answer = client.predict("onnx:text", {"x": words}).get_predictions()

        assert created["verification"]["status"] == "passed"
        assert answer["y"].tolist() == [word.upper() for word in words]

    def test_weights_beside_the_file(self, client: RedisAIClient, tmp_path: Path) -> None:
        proto, weights = large_product()
        rows = np.random.default_rng(2).normal(size=(250, 64)).astype(np.float32)
        path = save_onnx(tmp_path / "m", proto, save_as_external_data=True, input_example=rows[:3])

        created = client.create_deployment("onnx:external", str(path))

        answer = client.predict("onnx:external", rows).get_predictions()
        assert created["verification"]["status"] == "passed"
        np.testing.assert_allclose(answer["y"], rows @ weights, rtol=1e-3, atol=1e-4)

    def test_types_that_redisai_lacks(self, client: RedisAIClient, tmp_path: Path) -> None:
        """Inputs of float16 and uint32 travel in wider types, and come back in their own."""
        proto = graph_model(
            [helper.make_node("Add", ["a", "a"], ["c"]), helper.make_node("Identity", ["b"], ["d"])],
            [tensor("a", TensorProto.FLOAT16, [None, 2]), tensor("b", TensorProto.UINT32, [None])],
            [tensor("c", TensorProto.FLOAT16, [None, 2]), tensor("d", TensorProto.UINT32, [None])],
        )
        inputs = {"a": np.full((250, 2), 1.5, np.float16), "b": np.arange(250, dtype=np.uint32) + 2**31}
        client.create_deployment("onnx:lacking", str(save_onnx(tmp_path / "m", proto)))

        answer = client.predict("onnx:lacking", inputs).get_predictions()

        assert (answer["c"].dtype, answer["d"].dtype) == (np.float16, np.uint32)
        np.testing.assert_array_equal(answer["c"], inputs["a"] * 2)
        np.testing.assert_array_equal(answer["d"], inputs["b"])
