"""Keras models and TensorFlow modules, trained on real data, must answer as mlflow.pyfunc does on rows held out."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai import RedisAIClient
from mlflow_redisai.deploy.verification import NO_EXAMPLE
from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.protocol import dtypes
from support.tf_models import (
    cancer,
    deploy_tf,
    digits,
    matrix,
    module,
    old_model,
    pictures,
    save,
    save_old_saved_model,
    sequential,
    tokens,
    transformer,
    two_headed,
    two_inputs,
    two_part_module,
    weights,
)

if TYPE_CHECKING:
    from conftest import Cli
    from support.servers import Server

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]

FLAVORS = ["keras", "tensorflow"]
# Of 569 rows, those that no model here was trained on.
HELD_OUT = slice(300, None)


def rows() -> np.ndarray:
    return cancer()[0]


# -- Keras ----------------------------------------------------------------------------------------


@functools.cache
def classifier() -> Any:
    return sequential(normalize=True)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_sequential_model_answers_arrays_and_frames_alike(flavor: str, tmp_path: Path) -> None:
    """A signature of one tensor: pyfunc gives an array for both."""
    deployed = deploy_tf(save(tmp_path / "m", flavor, classifier(), rows()[:3]))

    held_out = rows()[HELD_OUT]
    assert deployed.deployable.backend == "ONNX"
    assert deployed.deployable.notes == ()
    deployed.assert_equals_pyfunc(held_out, within=1e-6)
    deployed.assert_equals_pyfunc(pd.DataFrame(held_out))
    assert deployed.predict(held_out).dtype == np.float32


KINDS: dict[str, tuple[Callable[[], Any], Callable[[], np.ndarray]]] = {
    "gelu": (lambda: sequential("gelu"), rows),
    "convolution": (lambda: pictures("convolution"), lambda: digits()[0]),
    "lstm": (lambda: pictures("lstm"), lambda: digits()[0]),
    "transformer": (transformer, lambda: tokens()[0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_many_kinds_become_onnx(kind: str, tmp_path: Path) -> None:
    """tf2onnx writes GELU with an operator that ONNX doesn't have; loops of recurrent layers run too."""
    make, inputs = KINDS[kind]

    deployed = deploy_tf(save(tmp_path / "m", "keras", make(), inputs()[:3]))

    assert deployed.deployable.backend == "ONNX"
    deployed.assert_equals_pyfunc(inputs()[-250:], within=2e-6)


@functools.cache
def heads(outputs: str) -> Any:
    return two_headed(outputs)


@pytest.mark.parametrize("outputs", ["list", "alike", "dict"])
def test_several_inputs_and_outputs_of_the_flavor_tensorflow(outputs: str, tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", heads(outputs), example))

    deployed.assert_equals_pyfunc(two_inputs())
    assert isinstance(deployed.predict(two_inputs()), dict if outputs == "dict" else list)
    cells = pd.DataFrame({name: list(values) for name, values in two_inputs().items()})
    deployed.assert_equals_pyfunc(cells)


def test_several_outputs_of_one_shape_come_stacked_from_the_flavor_keras(tmp_path: Path) -> None:
    """That is what pyfunc makes of Keras' list."""
    example = {name: values[:3] for name, values in two_inputs().items()}
    deployed = deploy_tf(save(tmp_path / "m", "keras", heads("alike"), example))

    deployed.assert_equals_pyfunc(two_inputs())
    assert deployed.predict(two_inputs()).shape == (2, 569, 1)


@pytest.mark.parametrize("outputs", ["list", "dict"])
def test_where_the_flavor_keras_has_no_array_the_answer_is_keras_own(outputs: str, tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    deployed = deploy_tf(save(tmp_path / "m", "keras", heads(outputs), example))

    expected = heads(outputs).predict(two_inputs(), verbose=0)
    assert compare(expected, deployed.predict(two_inputs()), 1e-6) is not None
    assert deployed.deployable.notes[0].startswith("mlflow.pyfunc has no answer")


def test_an_output_may_be_chosen_by_its_name(tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    path = save(tmp_path / "m", "tensorflow", heads("list"), example)

    chosen = deploy_tf(path, outputs="malign").predict(two_inputs())

    expected = heads("list").predict(two_inputs(), verbose=0)[1]
    assert compare(expected, chosen, 1e-6) is not None
    with pytest.raises(NotConvertible, match=r"no output 'price'; it has kind, malign"):
        deploy_tf(path, outputs="price")


def test_without_signature_the_answer_follows_the_input(tmp_path: Path) -> None:
    """A frame for a frame, with its index."""
    deployed = deploy_tf(save(tmp_path / "m", "keras", classifier(), None, signature=None))
    frame = pd.DataFrame(rows(), index=range(1000, 1569))

    deployed.assert_equals_pyfunc(rows())
    deployed.assert_equals_pyfunc(frame)
    assert deployed.predict(frame).index.tolist() == frame.index.tolist()


@pytest.mark.parametrize(
    ("numpy_dtype", "tensor"), [(np.float64, dtypes.DOUBLE), (np.int64, dtypes.INT64)], ids=["float64", "int64"]
)
def test_inputs_keep_the_signatures_type(numpy_dtype: Any, tensor: dtypes.DType, tmp_path: Path) -> None:
    """Keras rounds them to float32, as its own predict does."""
    inputs = (rows() * 10).astype(numpy_dtype)
    deployed = deploy_tf(save(tmp_path / "m", "keras", classifier(), inputs[:3]))

    assert [item.dtype for item in deployed.mapping.inputs] == [tensor]
    deployed.assert_equals_pyfunc(inputs)
    with pytest.raises(InputMismatch):
        deployed.predict(inputs.astype(str))


def test_an_exported_model_is_deployed_with_its_endpoint(tmp_path: Path) -> None:
    path = save(tmp_path / "m", "keras", classifier(), rows()[:3], save_exported_model=True)

    deploy_tf(path).assert_equals_pyfunc(rows())


def test_lengths_that_the_signature_leaves_open_stay_open(tmp_path: Path) -> None:
    import keras
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    given = keras.Input((None,), dtype="int64")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(17, 4)(given))
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.int64), (-1, -1))]))
    ids, _ = tokens()
    deployed = deploy_tf(save(tmp_path / "m", "keras", keras.Model(given, pooled), ids[:3], signature=signature))

    assert deployed.mapping.inputs[0].shape == (None, None)
    deployed.assert_equals_pyfunc(ids[:250])
    deployed.assert_equals_pyfunc(ids[:250, :7])


def test_half_precision_falls_back_to_tensorflow_which_rounds_alike(tmp_path: Path) -> None:
    import keras

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        deployed = deploy_tf(save(tmp_path / "m", "keras", sequential(), rows()[:3]))
    finally:
        keras.mixed_precision.set_global_policy("float32")

    assert deployed.deployable.backend == "TF"
    assert deployed.predict(rows()).dtype == np.float16
    deployed.assert_equals_pyfunc(rows())
    assert "answers differently when converted" in deployed.deployable.notes[0]


def test_a_layer_that_keras_cant_load_is_named(tmp_path: Path) -> None:
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    model = keras.Sequential([keras.Input((30,)), Doubled()])
    path = save(tmp_path / "m", "keras", model, rows()[:3])

    with pytest.raises(NotConvertible, match=r"can't be loaded: it has class 'Doubled', which isn't here") as raised:
        deploy_tf(path)
    assert "with backend" not in raised.value.message


def test_a_model_that_keeps_state_is_refused(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input(batch_shape=(4, 5, 6)), keras.layers.LSTM(3, stateful=True)])
    path = save(tmp_path / "m", "keras", model, rows()[:4].reshape(4, 5, 6))

    with pytest.raises(NotConvertible, match=r"changes its own variables when it answers"):
        deploy_tf(path)


# -- tf.Module ------------------------------------------------------------------------------------


@functools.cache
def linear() -> Any:
    import tensorflow as tf

    return module(lambda weights, inputs: tf.nn.softmax(inputs @ weights), matrix())


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_a_module_answers_alike_with_every_backend(backend: str, tmp_path: Path) -> None:
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", linear(), rows()[:3]), backend=backend)

    assert deployed.deployable.backend == backend
    deployed.assert_equals_pyfunc(rows())
    deployed.assert_equals_pyfunc(pd.DataFrame(rows()))
    assert deployed.deployable.tf_inputs == (("input",) if backend == "TF" else ())
    assert deployed.deployable.tf_outputs == (("output",) if backend == "TF" else ())


def test_what_onnx_has_no_operator_for_goes_to_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    scored = module(lambda weights, inputs: {"odds": tf.math.lgamma(1 + tf.abs(inputs @ weights))}, matrix())
    path = save(tmp_path / "m", "tensorflow", scored, rows()[:3])

    deployed = deploy_tf(path)

    assert deployed.deployable.backend == "TF"
    assert deployed.deployable.notes == (
        f"deployed with backend TF, not ONNX: the TensorFlow model {path} uses Lgamma, which ONNX has no operator for",
    )
    assert isinstance(deployed.predict(rows()), dict)
    # pyfunc gives TensorFlow's own tensors.
    expected = {name: value.numpy() for name, value in deployed.expected(rows()).items()}
    assert compare(expected, deployed.predict(rows()), 1e-6) is not None
    # Its converter gives a model all the same, which then doesn't run.
    with pytest.raises(NotConvertible, match=r"TensorFlow Lite"):
        deploy_tf(path, backend="TFLITE")


def test_text_in_and_out(tmp_path: Path) -> None:
    """TensorFlow has bytes where an answer has text."""
    import tensorflow as tf

    def hashed(_: Any, words: Any) -> Any:
        return tf.strings.to_hash_bucket_fast(words, 50), tf.strings.upper(words, encoding="utf-8")

    words = np.array(["malign", "benign", "gutartig", "größer"] * 60, object)
    path = save(tmp_path / "m", "tensorflow", module(hashed, tf.TensorSpec((None,), tf.string)), words[:4])

    buckets, upper = deploy_tf(path).predict(words)

    expected, _ = (value.numpy() for value in deploy_tf(path).expected(words))
    assert buckets.tolist() == expected.tolist()
    assert upper.tolist() == [word.upper() for word in words]


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_a_model_of_a_fixed_batch_takes_any_number_of_rows(backend: str, tmp_path: Path) -> None:
    """Rows are split, and the last request is filled up; the model itself takes exactly four."""
    import tensorflow as tf

    def in_pairs(weights: Any, inputs: Any) -> Any:
        return tf.reshape(tf.reshape(inputs, (2, 2, 30)) @ weights, (4, 2))

    path = save(tmp_path / "m", "tensorflow", module(in_pairs, matrix(4)), rows()[:4])

    deployed = deploy_tf(path, backend=backend)

    assert deployed.mapping.batch == 4
    assert "takes exactly 4 rows at a time" in deployed.deployable.notes[0]
    deployed.assert_equals_pyfunc(rows()[:4])
    assert compare(rows()[:201] @ weights(), deployed.predict(rows()[:201]), 1e-5) is not None


@pytest.mark.parametrize("kind", ["module", "keras"])
def test_a_batch_that_is_fixed_without_need_is_opened(kind: str, tmp_path: Path) -> None:
    import keras

    models = {
        "module": lambda: module(lambda weights, inputs: inputs @ weights, matrix(4)),
        "keras": lambda: keras.Sequential([keras.Input(batch_shape=(4, 30)), keras.layers.Dense(2)]),
    }
    deployed = deploy_tf(save(tmp_path / "m", "tensorflow", models[kind](), rows()[:4]))

    assert deployed.mapping.batch is None
    assert deployed.deployable.notes == (
        "the model was logged for exactly 4 rows at a time; it was found to take any number",
    )
    deployed.assert_equals_pyfunc(rows()[:4])


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_signatures_serve_where_pyfunc_cant_call_the_module(backend: str, tmp_path: Path) -> None:
    example = {name: values[:3] for name, values in two_inputs().items()}
    path = save(tmp_path / "m", "tensorflow", two_part_module(), example)

    deployed = deploy_tf(path, backend=backend)

    answer = deployed.predict(two_inputs())
    assert compare(rows() @ weights(), answer["risk"], 1e-5) is not None
    assert answer["size"].tolist() == rows()[:, 0].tolist()
    assert "mlflow.pyfunc has no answer" in deployed.deployable.notes[0]


def test_a_lookup_table_is_refused_by_name(tmp_path: Path) -> None:
    import tensorflow as tf

    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), 0)
    looked_up = module(lambda _, words: looked_up.table.lookup(words), tf.TensorSpec((None,), tf.string))
    looked_up.table = table
    path = save(tmp_path / "m", "tensorflow", looked_up, np.array(["a", "b"], object))

    with pytest.raises(NotConvertible, match=r"lookup table"):
        deploy_tf(path)


# -- the layout of MLflow 1 -----------------------------------------------------------------------


def old_inputs() -> dict[str, np.ndarray]:
    return {"measures": rows(), "age": np.abs(rows()[:, 0]).astype(np.float64)}


def test_an_old_saved_model_gives_a_frame_for_a_frame_and_lists_for_arrays(tmp_path: Path) -> None:
    """MLflow flattens what has one value a row; all else becomes lists, in cells of the frame."""
    deployed = deploy_tf(save_old_saved_model(tmp_path, old_model))
    frame = pd.DataFrame({"measures": list(rows()), "age": old_inputs()["age"]})

    answers = [(deployed.expected(given), deployed.predict(given)) for given in (frame, old_inputs())]

    for expected, answer in answers:
        assert list(expected) == list(answer)
        assert [type(value) for value in dict(expected).values()] == [type(value) for value in dict(answer).values()]
        for name in ("probabilities", "months"):
            assert np.abs(np.array(list(expected[name])) - np.array(list(answer[name]))).max() < 1e-5
        assert [value.decode() for value in expected["classes"]] == list(answer["classes"])
        assert list(expected["class_ids"]) == list(answer["class_ids"])
    assert isinstance(answers[0][1], pd.DataFrame)


def test_an_old_saved_model_with_a_signature(tmp_path: Path) -> None:
    """pyfunc makes a dict of a frame then, and answers with a dict."""
    from mlflow.models import infer_signature

    deployed = deploy_tf(save_old_saved_model(tmp_path, old_model, signature=infer_signature(old_inputs())))
    answer = deployed.predict(pd.DataFrame({"measures": list(rows()), "age": old_inputs()["age"]}))

    assert isinstance(answer["probabilities"], list)
    assert np.abs(np.array(answer["months"]) - 12 * old_inputs()["age"]).max() < 1e-9


def test_the_signature_that_an_old_saved_model_is_to_be_served_with_must_be_there(tmp_path: Path) -> None:
    def misnamed(folder: Path) -> str:
        old_model(folder)
        return "serving_default"

    with pytest.raises(NotConvertible, match=r"no signature 'serving_default'; it has predict"):
        deploy_tf(save_old_saved_model(tmp_path, misnamed))


# -- through the engine ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_the_engine_serves_a_keras_model(backend: str, tmp_path: Path, client: RedisAIClient) -> None:
    path = save(tmp_path / "m", "keras", classifier(), rows()[:3])
    name = f"keras-{backend}"
    if backend == "TFLITE" and importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("not installed: ai_edge_litert")

    client.create_deployment(name, str(path), config={"backend": backend})

    deployment = client.get_deployment(name)
    served = client.predict(name, rows()).get_predictions()
    assert deployment["backend"] == backend
    assert compare(classifier().predict(rows(), verbose=0), served, 1e-6) is not None


def test_the_engine_serves_an_old_saved_model(tmp_path: Path, client: RedisAIClient) -> None:
    """Tags, a signature's key, text among the outputs: TensorFlow runs it, and 569 rows come back in pyfunc's frame."""
    from mlflow.pyfunc import load_model

    path = save_old_saved_model(tmp_path, old_model)
    frame = pd.DataFrame({"measures": list(rows()), "age": old_inputs()["age"]})

    created = client.create_deployment("old", str(path), config={"backend": "TF"})

    answer, expected = client.predict("old", frame).get_predictions(), load_model(str(path)).predict(frame)
    assert created["verification"]["status"] == NO_EXAMPLE
    assert isinstance(answer, pd.DataFrame)
    assert list(answer) == list(expected)
    assert answer["classes"].tolist() == [value.decode() for value in expected["classes"]]
    assert answer["class_ids"].tolist() == expected["class_ids"].tolist()
    difference = np.array(answer["probabilities"].tolist()) - np.array(expected["probabilities"].tolist())
    assert np.abs(difference).max() < 1e-5


def test_the_command_line_tells_why_tensorflow_runs_a_model(tmp_path: Path, engine: Server, cli: Cli) -> None:
    """Logged, created and asked as a user would."""
    import tensorflow as tf

    scored = module(lambda weights, inputs: tf.math.lgamma(1 + tf.abs(inputs @ weights)), matrix())
    path = save(tmp_path / "m", "tensorflow", scored, rows()[:3])
    target = f"redisai://127.0.0.1:{engine.port}"
    (tmp_path / "rows.json").write_text(json.dumps({"inputs": rows()[HELD_OUT].tolist()}))

    created = cli("deployments", "create", "-t", target, "--name", "lgamma", "-m", str(path))
    asked = cli("deployments", "predict", "-t", target, "--name", "lgamma", "-I", str(tmp_path / "rows.json"))

    assert "tensorflow deployment lgamma is created" in created.stdout
    assert "uses Lgamma, which ONNX has no operator for" in str(RedisAIClient(target).get_deployment("lgamma"))
    expected = tf.math.lgamma(1 + np.abs(rows()[HELD_OUT] @ weights())).numpy()
    answer = np.array(json.loads(asked.stdout[asked.stdout.index("{") :])["predictions"], np.float32)
    assert compare(expected, answer, 1e-5) is not None


def test_the_example_shows_that_both_answer_alike(engine: Server, mlflow_store: str, tmp_path: Path) -> None:
    """The file in examples/, in a process of its own; it ends with code 1 if any answer differs."""
    example = Path(__file__).parents[4] / "examples" / "keras_digits.py"

    shown = subprocess.run(
        [sys.executable, str(example), f"redisai://127.0.0.1:{engine.port}"],
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow_store},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert shown.returncode == 0, shown.stderr
    assert "deployed with backend ONNX" in shown.stdout
