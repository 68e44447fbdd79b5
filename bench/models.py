"""
The models that are measured: ONNX bytes, suitable rows, and the commands that store and run them.

Weights are random, except for the tiny model and the trees, because they don't affect the time. No row contains a zero
byte, so that a row can be an argument on a command line (`drive.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drive import Argument

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Model:
    """An ONNX model with one input, FLOAT with any number of rows, and one output."""

    name: str
    onnx: bytes
    row_shape: tuple[int, ...]

    def rows(self, count: int = 1) -> Array:
        """Return random input."""
        rows = np.random.default_rng(1).uniform(0.1, 1, (count, *self.row_shape)).astype(np.float32)
        return np.frombuffer(rows.tobytes().replace(b"\0", b"\1"), np.float32).reshape(rows.shape)

    def named(self, name: str) -> Model:
        """Return the same model under another key."""
        return replace(self, name=name)

    def session(self, threads: int = 1) -> InferenceSession:
        """Return a session of plain ONNX Runtime. With 0 threads, it decides itself."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(self.onnx, options, providers=["CPUExecutionProvider"])

    def store(self, **options: int) -> list[Argument]:
        """Return AI.MODELSTORE. Options are BATCHSIZE and the like."""
        words = [word for name, value in options.items() for word in (name.upper(), value)]
        return ["AI.MODELSTORE", self.name, "ONNX", "CPU", *words, "BLOB", self.onnx]

    def dag(self, rows: int = 1) -> list[Argument]:
        """Return one prediction as one command, as the plugin sends it."""
        array = self.rows(rows)
        return [
            *("AI.DAGEXECUTE_RO", "ROUTING", self.name, "TIMEOUT", 30_000),
            *("|>", "AI.TENSORSET", "i", "FLOAT", *array.shape, "BLOB", array.tobytes()),
            *("|>", "AI.MODELEXECUTE", self.name, "INPUTS", 1, "i", "OUTPUTS", 1, "o"),
            *("|>", "AI.TENSORGET", "o", "META", "BLOB"),
        ]

    def three_commands(self) -> list[list[Argument]]:
        """Return the same prediction with tensors kept as keys."""
        array = self.rows()
        return [
            ["AI.TENSORSET", "in", "FLOAT", *array.shape, "BLOB", array.tobytes()],
            ["AI.MODELEXECUTE", self.name, "INPUTS", 1, "in", "OUTPUTS", 1, "out"],
            ["AI.TENSORGET", "out", "META", "BLOB"],
        ]


@cache
def tiny() -> Model:
    """Return a logistic regression on the iris data: 4 numbers in, 3 probabilities out."""
    from skl2onnx import to_onnx
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    numbers, species = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(numbers, species)
    converted = to_onnx(model, numbers[:1].astype(np.float32), options={"zipmap": False}, target_opset=15)
    probabilities = select_model_inputs_outputs(converted, outputs=["probabilities"])
    return Model("tiny", probabilities.SerializeToString(), (4,))


@cache
def middle() -> Model:
    """Return a perceptron with layers of 784, 512, 512 and 10."""
    return _perceptron("middle", (784, 512, 512, 10))


@cache
def small() -> Model:
    """Return a perceptron without hidden layers: 4 numbers in, 3 out."""
    return _perceptron("small", (4, 3))


PERCEPTRONS = {"small": small, "middle": middle}


@cache
def trees() -> Model:
    """Return a random forest of 500 trees, 6 levels deep, on 20 numbers."""
    from skl2onnx import to_onnx

    converted = to_onnx(forest(), np.ones((1, 20), np.float32), target_opset=15)
    return Model("trees", converted.SerializeToString(), (20,))


@cache
def forest() -> Any:
    """Return the scikit-learn model behind `trees`."""
    from sklearn.datasets import make_regression
    from sklearn.ensemble import RandomForestRegressor

    numbers, targets = make_regression(2000, 20, random_state=1)
    return RandomForestRegressor(500, max_depth=6, random_state=1).fit(numbers, targets)


@cache
def image() -> Model:
    """Return a small convolutional network: 3×224×224 in, 10 numbers out."""
    from onnx import helper

    random = np.random.default_rng(1)
    nodes, weights, channels, value = [], [], 3, "x"
    for number, filters in enumerate((16, 32, 64)):
        kernel = random.normal(0, 0.1, (filters, channels, 3, 3)).astype(np.float32)
        weights.append(_initializer(f"k{number}", kernel))
        nodes.append(helper.make_node("Conv", [value, f"k{number}"], [f"c{number}"], strides=[2, 2], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        channels, value = filters, f"r{number}"
    weights.append(_initializer("w", random.normal(0, 0.1, (channels, 10)).astype(np.float32)))
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["y"]))
    return Model("image", _onnx(nodes, weights, (3, 224, 224), (10,)), (3, 224, 224))


@cache
def text() -> Model:
    """
    Return an encoder of MiniLM's shape after its embeddings: 6 layers, 12 heads, 128 tokens of 384 numbers, mean out.
    """
    from onnx import helper

    random = np.random.default_rng(1)
    weights = {
        "split": np.array([0, 0, 12, 32], np.int64),
        "join": np.array([0, 0, 384], np.int64),
        "scale": np.float32(32**-0.5),
    }
    nodes: list[Any] = []

    def node(operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def dense(value: str, width: int, next_width: int) -> str:
        name = f"w{len(weights)}"
        weights[name] = random.normal(0, 0.02, (width, next_width)).astype(np.float32)
        return node("MatMul", value, name)

    def normal(value: str) -> str:
        centred = node("Sub", value, node("ReduceMean", value, axes=[-1]))
        variance = node("ReduceMean", node("Mul", centred, centred), axes=[-1])
        return node("Div", centred, node("Sqrt", variance))

    value = "x"
    for _ in range(6):
        heads = [node("Reshape", dense(value, 384, 384), "split") for _ in range(3)]
        query, values = (node("Transpose", heads[part], perm=[0, 2, 1, 3]) for part in (0, 2))
        keys = node("Transpose", heads[1], perm=[0, 2, 3, 1])
        attention = node("Softmax", node("Mul", node("MatMul", query, keys), "scale"), axis=-1)
        mixed = node("Transpose", node("MatMul", attention, values), perm=[0, 2, 1, 3])
        value = normal(node("Add", value, dense(node("Reshape", mixed, "join"), 384, 384)))
        wide = dense(value, 384, 1536)
        gelu = node("Mul", wide, node("Sigmoid", node("Mul", wide, wide)))
        value = normal(node("Add", value, dense(gelu, 1536, 384)))
    nodes.append(helper.make_node("ReduceMean", [value], ["y"], axes=[1], keepdims=0))
    initializers = [_initializer(name, array) for name, array in weights.items()]
    return Model("text", _onnx(nodes, initializers, (128, 384), (384,)), (128, 384))


@cache
def identity() -> Model:
    """Return a model that returns a 3×224×224 image unchanged: 602,112 bytes per row each way."""
    from onnx import helper

    shape = (3, 224, 224)
    return Model("identity", _onnx([helper.make_node("Identity", ["x"], ["y"])], [], shape, shape), shape)


def heavy(megabytes: int, number: int = 0) -> Model:
    """Return a product with one matrix of that many million bytes: a model of which only the weights matter."""
    return _perceptron(f"heavy{number}", (100, megabytes * 2500), seed=number)


def _perceptron(name: str, layers: Sequence[int], seed: int = 1) -> Model:
    from onnx import helper

    random = np.random.default_rng(seed)
    nodes, weights, value = [], [], "x"
    for number, (width, next_width) in enumerate(pairwise(layers)):
        is_last = number == len(layers) - 2
        matrix = np.resize(random.standard_normal(10_007, np.float32) / width, (width, next_width)).astype(np.float32)
        weights += [_initializer(f"w{number}", matrix), _initializer(f"b{number}", np.zeros(next_width, np.float32))]
        result = "y" if is_last else f"h{number}"
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [result]))
        if not is_last:
            nodes.append(helper.make_node("Relu", [result], [f"a{number}"]))
            value = f"a{number}"
    return Model(name, _onnx(nodes, weights, (layers[0],), (layers[-1],)), (layers[0],))


def _initializer(name: str, array: Array) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def _onnx(nodes: Sequence[Any], weights: Sequence[Any], row: Sequence[int], answer: Sequence[int]) -> bytes:
    """Return a model of opset 15 with `x` in and `y` out, for any number of rows."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *row])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", *answer])
    graph = helper.make_graph(list(nodes), "bench", [x], [y], initializer=list(weights))
    opsets = [helper.make_opsetid("", 15)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
