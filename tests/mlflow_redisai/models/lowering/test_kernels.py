"""Graphs for ONNX Runtime 1.11: every node has a kernel for its types there, and the answers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.models.lowering.forms import FORMS
from mlflow_redisai.models.lowering.kernels import fit_kernels
from mlflow_redisai.server.kernels import Kernels
from mlflow_redisai.server.limits import ServerLimits, limits_of

OLD = limits_of("1.11.1")
NUMBERS = np.concatenate(
    [
        np.random.default_rng(1).normal(size=50) * 3,
        [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -3.0, 7.0, 1e-9, -1e-9, 25.0, -25.0, 600.0, -600.0, np.nan],
        [np.inf, -np.inf, 2.0**53 + 2, 0.49999999999999994, -4503599627370495.5],
    ]
)
BOUNDED = NUMBERS[np.abs(NUMBERS) < 100]


def model_of(
    operator: str, arrays: dict[str, np.ndarray], out: Any, *, opset: int = 15, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """Return a graph of one node. Its inputs are `arrays`, its outputs have the type `out`."""
    names = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(operator, list(arrays), names, name="the node", **attributes)
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    made = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info(name, kinds[name], [None] * array.ndim) for name, array in arrays.items()],
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(out)), None) for name in names],
    )
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    # Gives the outputs their shapes.
    return onnx.shape_inference.infer_shapes(made)


def answers(blob: bytes, arrays: dict[str, np.ndarray]) -> list[Any]:
    found: list[Any] = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"]).run(None, arrays)
    return found


def without_kernels(model: onnx.ModelProto, version: tuple[int, int] = (1, 11)) -> list[str]:
    """Return the operators for whose types the table has no kernel, found without the code under test."""
    opsets = {item.domain: item.version for item in model.opset_import}
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = {item.name: item.type.tensor_type.elem_type for item in (*inferred.input, *inferred.value_info)}
    known |= {item.name: item.type.tensor_type.elem_type for item in inferred.output}
    known |= {item.name: item.data_type for item in inferred.initializer}
    found = []
    for node in inferred.node:
        schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
        formals = [schema.inputs[min(at, len(schema.inputs) - 1)] for at in range(len(node.input))]
        bound = {
            formal.type_str: TensorProto.DataType.Name(known[name]).lower()
            for formal, name in zip(formals, node.input, strict=True)
            if name in known
        }
        if Kernels(version).lacking(node.op_type, schema.since_version, bound):
            found.append(node.op_type)
    return found


REDUCED = {"x": np.random.default_rng(2).normal(size=(4, 5, 3))}
POSITIVE = {"x": np.abs(REDUCED["x"])}
ONE = {"x": NUMBERS}

FLOAT64: dict[str, tuple[str, dict[str, np.ndarray], Any, dict[str, Any]]] = {
    "IsNaN": ("IsNaN", ONE, bool, {}),
    "IsNaN of opset 12": ("IsNaN", ONE, bool, {"opset": 12}),
    "Floor": ("Floor", ONE, float, {}),
    "Ceil": ("Ceil", ONE, float, {}),
    "Floor of opset 12": ("Floor", ONE, float, {"opset": 12}),
    "Softplus": ("Softplus", ONE, float, {}),
    "Softsign": ("Softsign", {"x": BOUNDED}, float, {}),
    "Elu": ("Elu", ONE, float, {}),
    "Elu with alpha": ("Elu", ONE, float, {"alpha": 0.3}),
    "LeakyRelu": ("LeakyRelu", ONE, float, {}),
    "LeakyRelu with alpha": ("LeakyRelu", ONE, float, {"alpha": 0.3}),
    "LeakyRelu of opset 16": ("LeakyRelu", ONE, float, {"opset": 16}),
    "PRelu": ("PRelu", {"x": BOUNDED, "slope": np.array([0.2])}, float, {}),
    "Selu": ("Selu", ONE, float, {}),
    "ThresholdedRelu": ("ThresholdedRelu", ONE, float, {"alpha": 0.7}),
    "HardSigmoid": ("HardSigmoid", {"x": BOUNDED}, float, {"alpha": 0.3}),
    "HardSwish": ("HardSwish", {"x": BOUNDED}, float, {}),
    "Mean": ("Mean", {"a": BOUNDED, "b": BOUNDED**2}, float, {}),
    "NonZero": ("NonZero", ONE, np.int64, {}),
    "Cos": ("Cos", {"x": BOUNDED}, float, {}),
    "Tan": ("Tan", {"x": BOUNDED}, float, {}),
    "Sinh": ("Sinh", {"x": BOUNDED}, float, {}),
    "Cosh": ("Cosh", {"x": BOUNDED}, float, {}),
    "ReduceL1": ("ReduceL1", REDUCED, float, {"axes": [1, 2], "keepdims": 0}),
    "ReduceL1 of all": ("ReduceL1", REDUCED, float, {}),
    "ReduceL1 of opset 12": ("ReduceL1", REDUCED, float, {"axes": [1], "opset": 12}),
    "ReduceL2": ("ReduceL2", REDUCED, float, {"axes": [1], "keepdims": 0}),
    "ReduceL2 of opset 12": ("ReduceL2", REDUCED, float, {"axes": [0], "opset": 12}),
    "ReduceLogSum": ("ReduceLogSum", POSITIVE, float, {"axes": [1]}),
}
FUNCTIONS = {
    "Softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Elu": lambda x, alpha=1.0: np.where(x < 0, float(np.float32(alpha)) * np.expm1(x), x),
    "LeakyRelu": lambda x, alpha=0.01: np.where(x < 0, float(np.float32(alpha)) * x, x),
    "PRelu": lambda x, slope: np.where(x < 0, slope * x, x),
    "Selu": lambda x: (
        float(np.float32(1.0507009873554804)) * np.where(x < 0, float(np.float32(1.6732632423543772)) * np.expm1(x), x)
    ),
    "ThresholdedRelu": lambda x, alpha: np.where(x > float(np.float32(alpha)), x, 0),
    "HardSigmoid": lambda x, alpha: np.clip(float(np.float32(alpha)) * x + 0.5, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Mean": lambda a, b: (a + b) / 2,
    "IsNaN": np.isnan,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Tan": np.tan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "NonZero": lambda x: np.array(np.nonzero(x)),
    "ReduceL1": lambda x, axes=None, keepdims=1: np.abs(x).sum(axis=axes and tuple(axes), keepdims=bool(keepdims)),
    "ReduceL2": lambda x, axes, keepdims=1: np.sqrt((x * x).sum(axis=tuple(axes), keepdims=bool(keepdims))),
    "ReduceLogSum": lambda x, axes: np.log(x.sum(axis=tuple(axes), keepdims=True)),
}


@pytest.mark.parametrize("case", FLOAT64)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_of_float64_keep_their_answers(case: str) -> None:
    operator, arrays, out, options = FLOAT64[case]
    model = model_of(operator, arrays, out, **options)
    attributes = {name: value for name, value in options.items() if name != "opset"}
    assert without_kernels(model) == [operator]

    blob = graph.finish(model, ServerLimits(kernels=(1, 11), opset=16), "the test")

    assert not without_kernels(onnx.load_from_string(blob))
    expected = FUNCTIONS[operator](*arrays.values(), **attributes)
    np.testing.assert_allclose(answers(blob, arrays)[0], expected, rtol=1e-14, atol=4e-16)


NARROW = {
    "Add": 2, "Sub": 2, "Mul": 2, "Equal": 2, "Less": 2, "LessOrEqual": 2, "Greater": 2, "GreaterOrEqual": 2,
    "Max": 2, "Min": 2, "Neg": 1, "ReduceMax": 1, "ReduceMin": 1, "ArgMax": 1, "ArgMin": 1,
}  # fmt: skip
COMPARING = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def pairs_of_types() -> list[tuple[str, str]]:
    """Return the operators with the narrow types that ONNX allows; of uint32, ONNX Runtime has no ArgMax at all."""
    found = []
    for operator in NARROW:
        [numbers] = [
            one for one in onnx.defs.get_schema(operator, 15, "").type_constraints if one.type_param_str == "T"
        ]
        narrow = {"int8", "int16", "uint8", "uint16", "uint32", "bool"} - ({"uint32"} if "Arg" in operator else set())
        found += [(operator, kind) for kind in sorted(narrow) if f"tensor({kind})" in numbers.allowed_type_strs]
    return found


@pytest.mark.parametrize(("operator", "kind"), pairs_of_types())
def test_narrow_integers_are_computed_in_wider_ones(operator: str, kind: str) -> None:
    """At their limits too, where a sum wraps around."""
    limits = [0, 1] if kind == "bool" else [0, 1, 3, np.iinfo(kind).max, np.iinfo(kind).min, np.iinfo(kind).max - 1]
    pairs = np.array([(one, other) for one in limits for other in limits]).astype(kind)
    arrays = dict(zip("ab", pairs.T, strict=False)) if NARROW[operator] == 2 else {"a": pairs}
    out = "bool" if operator in COMPARING else "int64" if operator.startswith("Arg") else kind
    model = model_of(operator, arrays, out, **({"axes": [0]} if operator.startswith("Reduce") else {}))

    fit_kernels(model, (1, 11), "the test")

    assert not without_kernels(model)
    [answer] = answers(model.SerializeToString(), arrays)

    np.testing.assert_array_equal(answer, WITH_NUMPY[operator](*arrays.values()))
    assert answer.dtype == out


WITH_NUMPY = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Equal": np.equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Max": np.maximum,
    "Min": np.minimum, "Neg": np.negative, "ReduceMax": lambda x: x.max(axis=0, keepdims=True),
    "ReduceMin": lambda x: x.min(axis=0, keepdims=True), "ArgMax": lambda x: x.argmax(axis=0)[None],
    "ArgMin": lambda x: x.argmin(axis=0)[None],
}  # fmt: skip


def test_a_choice_of_truth_values() -> None:
    """Where takes its types by another parameter than the condition."""
    arrays = {"which": np.array([True, False]), "a": np.array([True, True]), "b": np.array([False, False])}
    model = model_of("Where", arrays, bool)

    fit_kernels(model, (1, 11), "the test")

    assert not without_kernels(model)
    assert answers(model.SerializeToString(), arrays)[0].tolist() == [True, False]


@pytest.mark.parametrize(
    ("operator", "taken"),
    [("Erf", "float16, float32"), ("Atan", "float16, float32"), ("ReduceProd", "float16, float32, int32, int64")],
)
def test_what_needs_float32_is_refused(operator: str, taken: str) -> None:
    model = model_of(operator, {"x": np.zeros((2, 2))}, float)

    with pytest.raises(NotConvertible) as refused:
        graph.finish(model, OLD, "the test")

    assert refused.value.message == (
        f"the test has the node {operator} 'the node' of float64, for which the server's ONNX Runtime 1.11 has no "
        f"kernel; it has those of {taken}"
    )


@pytest.mark.parametrize("limits", [ServerLimits(), limits_of("1.14.0"), limits_of(onnxruntime.__version__)])
def test_newer_servers_get_the_graph_as_it_is(limits: ServerLimits) -> None:
    model = model_of("ReduceL2", {"x": np.zeros(3)}, float)

    assert [node.op_type for node in onnx.load_from_string(graph.finish(model, limits, "it")).graph.node] == [
        "ReduceL2"
    ]


@pytest.mark.parametrize("case", FLOAT64)
def test_float32_is_left_alone(case: str) -> None:
    operator, arrays, out, options = FLOAT64[case]
    narrow = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = model_of(operator, narrow, np.float32 if out is float else out, **options)
    before = model.SerializeToString()

    fit_kernels(model, (1, 11), "the test")

    assert model.SerializeToString() == before


def test_every_form_is_tried() -> None:
    tried = {operator for operator, *_ in FLOAT64.values()} | set(NARROW)

    assert set(FORMS) - tried == {
        "Where",
        "Split",
        "Tile",
        "Pad",
        "Trilu",
        "CumSum",
        "Relu",
        "Clip",
        "ReduceSum",
        "TopK",
    }


def test_nodes_inside_branches_are_looked_at() -> None:
    """A branch reads tensors of the graph around it."""

    def branch(operator: str, name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None])
        return helper.make_graph([helper.make_node(operator, ["x"], [name])], name, [], [out])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Floor", "a"), else_branch=branch("Ceil", "b"))
    arrays = {"c": np.ones((), bool), "x": np.array([1.5])}
    inputs = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None]),
    ]
    made = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None])])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)

    blob = graph.finish(model, OLD, "the test")

    assert {"Floor", "Ceil"}.isdisjoint(each.op_type for each in graph.nodes(onnx.load_from_string(blob).graph))
    assert answers(blob, arrays)[0].tolist() == [1.0]


def test_a_form_may_need_another_form() -> None:
    """The sum of 8-bit numbers becomes one of 32-bit numbers; its name and the constants of both forms stay apart."""
    x = np.array([[1.5, np.nan], [-0.5, 2.0]])
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gap"]),
        helper.make_node("Where", ["gap", "gap", "gap"], ["same"]),
        helper.make_node("IsNaN", ["x"], ["again"]),
        helper.make_node("Equal", ["same", "again"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, [None, 2])],
        [numpy_helper.from_array(np.float64(0), "unused")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)

    fit_kernels(model, (1, 11), "the test")

    assert not without_kernels(model)
    assert answers(model.SerializeToString(), {"x": x})[0].all()
