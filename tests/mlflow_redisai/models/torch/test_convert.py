"""PyTorch models trained on real data answer as mlflow.pyfunc does, on rows that they weren't trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pandas as pd
import pytest

from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.loading import open_model
from redisai_engine.codec.compare import compare, tolerance_of
from redisai_engine.protocol import dtypes
from support.packages import without

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # it imports torch
from support.torch_models import WORDS, answers, deploy_torch, mask_of, save_torch  # noqa: E402

if TYPE_CHECKING:
    from support.local_runs import Deployed

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # torch deprecates TorchScript, the format of RedisAI's backend TORCH
    "ignore:`torch.jit:DeprecationWarning",
)


def opset(deployed: Deployed) -> int:
    return int(onnx.load_from_string(deployed.deployable.blob).opset_import[0].version)


FORMATS: dict[str, Callable[[Path, Any, Any], Path]] = {
    "pt2": lambda path, module, rows: save_torch(path, module, input_example=rows),
    "pickle": lambda path, module, rows: save_torch(path, module, input_example=rows, serialization_format="pickle"),
    "scripted": lambda path, module, rows: save_torch(
        path, torch.jit.script(module), input_example=rows, serialization_format="pickle"
    ),
    "traced": lambda path, module, rows: save_torch(
        path, torch.jit.trace(module, torch.from_numpy(rows)), input_example=rows, serialization_format="pickle"
    ),
}


class TestFormats:
    """In every format of the model, all 1797 images get pyfunc's answer. Half of them are held out."""

    @pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
    @pytest.mark.parametrize("form", FORMATS)
    def test_images_get_pyfuncs_answer(self, form: str, backend: str, images: Any, tmp_path: Path) -> None:
        rows, target = models.digits()

        deployed = deploy_torch(FORMATS[form](tmp_path / "m", images, rows[:4]), backend=backend)

        answer = deployed.predict(rows)
        deployed.assert_equals_pyfunc(rows, within=1e-6)
        assert (answer.argmax(1) == target)[1::2].mean() > 0.8  # the model has learned something
        assert deployed.mapping.batch is None
        assert not [note for note in deployed.deployable.notes if "are refused" not in note]

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_graph_is_one_that_redisai_loads(self, form: str, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()

        deployed = deploy_torch(FORMATS[form](tmp_path / "m", images, rows[:4]))

        assert deployed.deployable.backend == "ONNX"
        assert opset(deployed) == 15
        assert deployed.mapping.inputs[0].dtype is dtypes.FLOAT
        assert deployed.mapping.inputs[0].shape == (None, 1, 8, 8)
        assert deployed.mapping.outputs[0].shape == (None, 10)

    def test_a_single_row_gets_the_answer_it_gets_among_others(self, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()
        deployed = deploy_torch(save_torch(tmp_path / "m", images, input_example=rows[:4]))

        one = deployed.predict(rows[7:8])

        np.testing.assert_allclose(one, deployed.predict(rows)[7:8], rtol=1e-5, atol=1e-5)


class TestContainers:
    """As in pyfunc, a signature of columns gives a frame, and one of a tensor gives an array."""

    def test_columns_give_a_frame_with_the_inputs_index(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        deployed = deploy_torch(
            save_torch(tmp_path / "m", table, input_example=frame[:5], serialization_format="pickle")
        )
        rows = frame.sample(frac=1, random_state=1)

        answer = deployed.predict(rows)

        pd.testing.assert_frame_equal(deployed.expected(rows), answer, rtol=1e-5)
        assert answer.index.equals(rows.index)

    def test_columns_keep_the_signatures_type(self, table: Any, tmp_path: Path) -> None:
        """The columns are doubles. The graph casts them to the model's float32, as pyfunc does."""
        frame, _ = models.cancer()

        deployed = deploy_torch(
            save_torch(tmp_path / "m", table, input_example=frame[:5], serialization_format="pickle")
        )

        assert [item.dtype for item in deployed.mapping.inputs] == [dtypes.DOUBLE]
        deployed.assert_equals_pyfunc(frame)

    def test_a_tensor_gives_an_array_for_frames_too(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        rows = frame.to_numpy(np.float32)
        deployed = deploy_torch(save_torch(tmp_path / "m", table, input_example=rows[:5]))

        for inputs in (rows, frame.astype(np.float32)):
            answer = deployed.predict(inputs)
            assert isinstance(answer, np.ndarray)
            np.testing.assert_allclose(answer, deployed.expected(inputs), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("kind", ["frame", "array"])
    def test_without_signature_the_answer_follows_the_input(self, kind: str, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        example: Any = frame.astype(np.float32) if kind == "frame" else frame.to_numpy(np.float32)
        path = save_torch(
            tmp_path / "m", table, input_example=example[:5], signature=False, serialization_format="pickle"
        )

        deployed = deploy_torch(path)

        assert type(deployed.predict(example)) is type(deployed.expected(example))
        deployed.assert_equals_pyfunc(example)

    def test_more_dimensions_than_a_frame_has_stay_an_array(self, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()
        deployed = deploy_torch(save_torch(tmp_path / "m", images.convolution, input_example=rows[:4]))

        assert deployed.predict(rows[:200]).shape == (200, 8, 6, 6)
        deployed.assert_equals_pyfunc(rows[:200])

    def test_double_precision_is_kept(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        rows = frame.to_numpy(np.float64)
        module = models.Scaled(rows, 2).double().eval()

        deployed = deploy_torch(save_torch(tmp_path / "m", module, input_example=rows[:5]))

        deployed.assert_equals_pyfunc(rows, within=1e-14)
        assert deployed.mapping.precision is dtypes.DOUBLE


@pytest.mark.slow
class TestSeveral:
    """pyfunc can't answer several inputs and outputs, so the reference is the module itself."""

    @pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
    @pytest.mark.parametrize("form", ["pt2", "pickle"])
    def test_two_inputs_and_a_dict(self, form: str, backend: str, words: Any, tmp_path: Path) -> None:
        """Token ids and a mask have open lengths, the module has attention, and one output is a label."""
        ids, _ = models.tokens()
        mask = mask_of(ids)
        example: Any = (ids[:4], mask[:4]) if form == "pt2" else {"ids": ids[:4], "mask": mask[:4]}
        path = save_torch(tmp_path / "m", words, input_example=example, signature=WORDS, serialization_format=form)

        deployed = deploy_torch(path, backend=backend)

        answer = deployed.predict({"mask": mask, "ids": ids})
        assert list(answer) == ["logits", "label"]
        assert compare(answers(words, ids, mask), answer, tolerance_of(deployed.mapping)) is not None
        assert [item.dtype for item in deployed.mapping.inputs] == [dtypes.INT64, dtypes.INT64]
        assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"

    def test_another_length_than_the_examples(self, words: Any, tmp_path: Path) -> None:
        ids, _ = models.tokens()
        mask = mask_of(ids)
        deployed = deploy_torch(save_torch(tmp_path / "m", words, input_example=(ids[:4], mask[:4]), signature=WORDS))
        short = {"ids": np.ascontiguousarray(ids[:200, :11]), "mask": np.ascontiguousarray(mask[:200, :11])}

        answer = deployed.predict(short)

        expected = answers(words, short["ids"], short["mask"])
        assert compare(expected, answer, tolerance_of(deployed.mapping)) is not None

    def test_without_any_example_lengths_are_made_up(self, words: Any, tmp_path: Path) -> None:
        path = save_torch(tmp_path / "m", words, signature=WORDS, serialization_format="pickle")

        deployed = deploy_torch(path)

        ids, _ = models.tokens()
        inputs = {"ids": ids[:200], "mask": mask_of(ids)[:200]}
        expected = answers(words, inputs["ids"], inputs["mask"])
        assert compare(expected, deployed.predict(inputs), tolerance_of(deployed.mapping)) is not None
        assert verify(deployed.run, deployed.deployable, deployed.model).status.startswith("not verified")

    def test_the_user_may_choose_among_the_outputs(self, words: Any, tmp_path: Path) -> None:
        ids, _ = models.tokens()
        mask = mask_of(ids)
        path = save_torch(tmp_path / "m", words, input_example=(ids[:4], mask[:4]), signature=WORDS)

        one = deploy_torch(path, outputs="label")
        both = deploy_torch(path, outputs="label,logits")

        expected = answers(words, ids, mask)
        np.testing.assert_array_equal(expected["label"], one.predict({"ids": ids, "mask": mask}))
        assert list(both.predict({"ids": ids, "mask": mask})) == ["label", "logits"]
        found = verify(one.run, one.deployable, one.model)
        assert (found.status, found.reference) == ("passed", "the PyTorch module itself")
        with pytest.raises(NotConvertible, match=r"has no output 'probability'; it has logits, label"):
            deploy_torch(path, outputs="probability")


class TestRefusals:
    def test_a_model_that_tells_nothing_of_its_input(self, table: Any, tmp_path: Path) -> None:
        path = save_torch(tmp_path / "m", table, serialization_format="pickle")

        with pytest.raises(NotConvertible, match="has no signature and no input example, so its inputs are unknown"):
            deploy_torch(path, backend="ONNX")

    def test_an_example_that_the_model_refuses(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        path = save_torch(
            tmp_path / "m",
            table,
            input_example=frame.to_numpy(np.float32)[:3, :7],
            signature=False,
            serialization_format="pickle",
        )

        with pytest.raises(NotConvertible, match="fails on its input example: The size of tensor a"):
            deploy_torch(path, backend="ONNX")

    def test_a_class_that_is_not_there(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        path = save_torch(tmp_path / "m", table, input_example=frame[:3], serialization_format="pickle")
        (path / "data" / "model.pth").write_bytes(b"not a model")

        with pytest.raises(NotConvertible, match="can't be loaded: "):
            deploy_torch(path, backend="ONNX")

    def test_without_torch_the_extra_is_named(self, table: Any, tmp_path: Path) -> None:
        rows = models.cancer()[0].to_numpy(np.float32)
        path = save_torch(tmp_path / "m", table, input_example=rows[:3])

        with open_model(str(path)) as model, without("torch"), pytest.raises(MissingConverter) as caught:
            convert(model, flavor="pytorch")

        assert caught.value.message == (
            'deploying the flavor pytorch needs torch, which isn\'t installed; pip install "mlflow-redisai[torch]"'
        )
