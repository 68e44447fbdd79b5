"""PyTorch models trained on real data: what is deployed answers as mlflow.pyfunc does, on rows not trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec

from mlflow_redisai.deploy.verification import verify
from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.choice import convert
from mlflow_redisai.models.loading import open_model
from redisai_engine.codec.compare import compare, tolerance_of
from redisai_engine.protocol import dtypes

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')

from support import torch_models as models  # noqa: E402  # torch's classes stand at the top of it
from support.torch_models import deploy_torch, save_torch  # noqa: E402

if TYPE_CHECKING:
    from support.local_runs import Deployed

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch",  # TorchScript is RedisAI's format, which torch deprecates
    "ignore:`torch.jit:DeprecationWarning",
)


@pytest.fixture(scope="module")
def images() -> Any:
    """A network of convolutions that knows most digits."""
    return models.train(models.Images(), *models.digits())


@pytest.fixture(scope="module")
def table() -> Any:
    """A network over the 30 columns of the cancer data."""
    frame, target = models.cancer()
    return models.train(models.Scaled(frame, 2), frame.to_numpy(np.float32), target)


@pytest.fixture(scope="module")
def words() -> Any:
    """A network over two integer tensors; gives a dict."""
    ids, target = models.tokens()
    return models.train(models.Words(), (ids, mask_of(ids)), target)


def mask_of(ids: Any) -> Any:
    mask = np.ones_like(ids)
    mask[::3, 10:] = 0
    return mask


def spec(kind: str, shape: tuple[int, ...], name: str | None = None) -> TensorSpec:
    return TensorSpec(np.dtype(kind), shape, name)


WORDS = ModelSignature(Schema([spec("int64", (-1, -1), "ids"), spec("int64", (-1, -1), "mask")]))


def answers(module: Any, *arrays: Any) -> Any:
    """What the module itself gives, as arrays in the same container."""
    with torch.no_grad():
        given = module(*[torch.from_numpy(array) for array in arrays])
    if isinstance(given, dict):
        return {name: value.numpy() for name, value in given.items()}
    return [value.numpy() for value in given]


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
    """However the model was logged, all 1797 images get pyfunc's answer, half of them held out."""

    @pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
    @pytest.mark.parametrize("form", FORMATS)
    def test_images_get_pyfuncs_answer(self, form: str, backend: str, images: Any, tmp_path: Path) -> None:
        rows, target = models.digits()

        deployed = deploy_torch(FORMATS[form](tmp_path / "m", images, rows[:4]), backend=backend)

        answer = deployed.predict(rows)
        deployed.assert_equals_pyfunc(rows, within=1e-6)
        assert (answer.argmax(1) == target)[1::2].mean() > 0.8  # the model is one worth serving
        assert deployed.mapping.batch is None
        assert deployed.deployable.notes == ()

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


@pytest.mark.slow
class TestFixedBatch:
    """MLflow's default for an example of one row: a program that takes exactly one."""

    @pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
    def test_any_number_of_rows_is_answered_row_by_row(self, backend: str, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()
        path = save_torch(tmp_path / "m", images, input_example=rows[:1])

        deployed = deploy_torch(path, backend=backend)

        expected = np.concatenate([deployed.expected(rows[index : index + 1]) for index in range(250)])
        assert deployed.mapping.batch == 1
        assert compare(expected, deployed.predict(rows[:250]), tolerance_of(deployed.mapping)) is not None

    def test_the_reply_says_so(self, images: Any, tmp_path: Path) -> None:
        rows, _ = models.digits()

        deployed = deploy_torch(save_torch(tmp_path / "m", images, input_example=rows[:1]))

        assert deployed.deployable.notes == (
            "the model takes exactly one row at a time: predict sends each row by itself",
        )

    def test_pyfunc_itself_takes_one_row_only(self, images: Any, tmp_path: Path) -> None:
        """Which is why rows are split: it is the plugin that does better here, not the model."""
        rows, _ = models.digits()
        deployed = deploy_torch(save_torch(tmp_path / "m", images, input_example=rows[:1]))

        with pytest.raises(Exception, match=r"[Gg]uard|shape"):
            deployed.expected(rows[:3])

    def test_a_program_that_does_not_depend_on_it_takes_many(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        rows = frame.to_numpy(np.float32)
        path = save_torch(tmp_path / "m", table, input_example=rows[:1])

        deployed = deploy_torch(path)

        expected = np.concatenate([deployed.expected(rows[index : index + 1]) for index in range(250)])
        assert deployed.mapping.batch is None
        assert compare(expected, deployed.predict(rows[:250]), tolerance_of(deployed.mapping)) is not None
        assert deployed.deployable.notes == (
            "the model was logged for exactly one row at a time; it was found to take any number",
        )

    def test_rows_that_depend_on_each_other_stay_alone(self, table: Any, tmp_path: Path) -> None:
        """The program runs on many rows without complaint, and gives something else."""
        frame, _ = models.cancer()
        rows = frame.to_numpy(np.float32)
        path = save_torch(tmp_path / "m", models.AcrossRows(table), input_example=rows[:1])

        deployed = deploy_torch(path)

        assert deployed.mapping.batch == 1
        np.testing.assert_array_equal(deployed.predict(rows[:20]), np.zeros((20, 2), np.float32))

    def test_a_larger_fixed_batch_is_filled_up(self, images: Any, tmp_path: Path) -> None:
        """Seven rows for a program of four: two requests, the second with a copy of the last row."""
        rows, _ = models.digits()
        signature = ModelSignature(Schema([spec("float32", (4, 1, 8, 8))]))
        path = save_torch(tmp_path / "m", images, input_example=rows[:4], signature=signature)

        deployed = deploy_torch(path)

        with torch.no_grad():
            expected = images(torch.from_numpy(rows[:207])).numpy()
        assert deployed.mapping.batch == 4
        assert compare(expected, deployed.predict(rows[:207]), tolerance_of(deployed.mapping)) is not None
        assert deployed.deployable.notes[0].startswith("the model takes exactly 4 rows at a time: predict splits")


def test_an_example_that_was_part_of_a_larger_array(table: Any, tmp_path: Path) -> None:
    """torch.export keeps its example's strides as a condition, which pyfunc then holds against every other array."""
    frame, _ = models.cancer()
    held_out = frame.astype(np.float32)[1::2].to_numpy()
    path = save_torch(tmp_path / "m", table, input_example=held_out[:4])

    deployed = deploy_torch(path)

    with torch.no_grad():
        expected = table(torch.from_numpy(held_out)).numpy()
    assert compare(expected, deployed.predict(held_out), tolerance_of(deployed.mapping)) is not None
    found = verify(deployed.run, deployed.deployable, deployed.model)
    kind = "the PyTorch module itself, without the checks that its export wrote into it"
    assert (found.status, found.reference) == ("passed", kind)
    with pytest.raises(AssertionError, match="stride"):
        deployed.expected(np.ascontiguousarray(held_out))


class TestContainers:
    """A frame for a signature of columns, an array for a tensor, as pyfunc has it."""

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
        """The columns are doubles; the model's own float32 is made inside the graph, as pyfunc makes it."""
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
    """Several inputs and outputs, which pyfunc doesn't answer: the module itself is what the answers must equal."""

    @pytest.mark.parametrize("backend", ["ONNX", "TORCH"])
    @pytest.mark.parametrize("form", ["pt2", "pickle"])
    def test_two_inputs_and_a_dict(self, form: str, backend: str, words: Any, tmp_path: Path) -> None:
        """Token ids and a mask of open length; attention inside; a label among the outputs."""
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

    def test_a_pt2_model_of_several_inputs_is_verified_with_its_own_example(self, words: Any, tmp_path: Path) -> None:
        """MLflow stores no example for those; the program holds the one that it was exported with."""
        ids, _ = models.tokens()
        path = save_torch(tmp_path / "m", words, input_example=(ids[:4], mask_of(ids)[:4]), signature=WORDS)

        with open_model(str(path)) as model:
            assert model.input_example is None
        deployed = deploy_torch(path)

        found = verify(deployed.run, deployed.deployable, deployed.model)
        assert (found.status, found.rows, found.reference) == ("passed", 4, "the PyTorch module itself")

    def test_without_any_example_lengths_are_made_up(self, words: Any, tmp_path: Path) -> None:
        path = save_torch(tmp_path / "m", words, signature=WORDS, serialization_format="pickle")

        deployed = deploy_torch(path)

        ids, _ = models.tokens()
        inputs = {"ids": ids[:200], "mask": mask_of(ids)[:200]}
        expected = answers(words, inputs["ids"], inputs["mask"])
        assert compare(expected, deployed.predict(inputs), tolerance_of(deployed.mapping)) is not None
        assert verify(deployed.run, deployed.deployable, deployed.model).status.startswith("not verified")

    @pytest.mark.parametrize("form", ["pt2", "pickle"])
    def test_a_recurrent_model_gives_a_list(self, form: str, tmp_path: Path) -> None:
        ids, target = models.tokens()
        module = models.train(models.Recurrent(), ids, target, steps=5)
        signature = ModelSignature(Schema([spec("int64", (-1, 16))]))
        path = save_torch(tmp_path / "m", module, input_example=ids[:4], signature=signature, serialization_format=form)

        deployed = deploy_torch(path)

        answer = deployed.predict(ids[:300])
        assert isinstance(answer, list)
        assert compare(answers(module, ids[:300]), answer, tolerance_of(deployed.mapping)) is not None

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

    def test_half_precision_comes_back_as_such(self, tmp_path: Path) -> None:
        rows = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
        path = save_torch(tmp_path / "m", Halves().eval(), input_example=rows, serialization_format="pickle")

        deployed = deploy_torch(path)

        assert [value.dtype for value in deployed.predict(rows)] == [np.float16, np.float32]
        assert verify(deployed.run, deployed.deployable, deployed.model).status == "passed"


class Halves(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return (x / 2).half(), x / 2


class TestWhatATraceCannotKeep:
    def test_a_branch_on_values_is_kept(self, table: Any, tmp_path: Path) -> None:
        """A trace would always go the example's way."""
        frame, _ = models.cancer()
        module = models.Doubting(table).eval()
        path = save_torch(tmp_path / "m", module, input_example=frame[:2], serialization_format="pickle")

        deployed = deploy_torch(path)

        few, many = frame[:2], frame
        assert few.to_numpy().sum() < 30000 < many.to_numpy().sum()
        assert deployed.deployable.backend == "ONNX"
        deployed.assert_equals_pyfunc(few)
        deployed.assert_equals_pyfunc(many)

    def test_what_onnx_lacks_is_deployed_as_torchscript(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """And the reply says why; nothing is printed besides, as output belongs to the command."""
        rows, target = models.digits()
        module = models.train(models.Spectrum(), rows, target, steps=5)
        path = save_torch(tmp_path / "m", module, input_example=rows[:4])
        capfd.readouterr()

        deployed = deploy_torch(path)

        printed = capfd.readouterr().out
        assert deployed.deployable.backend == "TORCH"
        reason = (
            f"the PyTorch model {path} can't be exported to ONNX: Exporting the operator 'aten::fft_rfft' to ONNX "
            "opset version 15 is not supported"
        )
        assert deployed.deployable.notes == (f"deployed with backend TORCH, not ONNX: {reason}",)
        deployed.assert_equals_pyfunc(rows)
        assert printed == ""

    def test_a_backend_that_was_asked_for_is_not_replaced(self, tmp_path: Path) -> None:
        rows, _ = models.digits()
        path = save_torch(tmp_path / "m", models.Spectrum().eval(), input_example=rows[:4])

        with pytest.raises(NotConvertible, match="aten::fft_rfft"):
            deploy_torch(path, backend="ONNX")


class Nested(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x, (x, x)


class TestRefusals:
    def test_nested_answers(self, tmp_path: Path) -> None:
        rows, _ = models.digits()
        path = save_torch(tmp_path / "m", Nested(), input_example=rows[:4], serialization_format="pickle")

        with pytest.raises(NotConvertible) as caught:
            deploy_torch(path)

        reason = (
            f"the PyTorch model {path} gives a tuple with a tuple as 'output_1'; what can be served is a tensor, or a "
            "list, tuple or dict of tensors: wrap the model in a module whose forward gives that, and log the wrapper"
        )
        assert caught.value.message == reason

    def test_a_model_that_tells_nothing_of_its_input(self, table: Any, tmp_path: Path) -> None:
        path = save_torch(tmp_path / "m", table, serialization_format="pickle")

        with pytest.raises(NotConvertible, match="has no signature and no input example, so nobody knows"):
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

        with pytest.raises(NotConvertible, match="doesn't answer its input example: The size of tensor a"):
            deploy_torch(path, backend="ONNX")

    def test_a_class_that_is_not_there(self, table: Any, tmp_path: Path) -> None:
        frame, _ = models.cancer()
        path = save_torch(tmp_path / "m", table, input_example=frame[:3], serialization_format="pickle")
        (path / "data" / "model.pth").write_bytes(b"not a model")

        with pytest.raises(NotConvertible, match="can't be loaded: "):
            deploy_torch(path, backend="ONNX")

    def test_without_torch_the_extra_is_named(
        self, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = models.cancer()[0].to_numpy(np.float32)
        path = save_torch(tmp_path / "m", table, input_example=rows[:3])
        monkeypatch.setitem(sys.modules, "torch", None)

        with open_model(str(path)) as model, pytest.raises(MissingConverter) as caught:
            convert(model, flavor="pytorch")

        assert caught.value.message == (
            'deploying the flavor pytorch needs torch, which isn\'t installed; pip install "mlflow-redisai[torch]"'
        )
