"""
Other forms for ONNX nodes whose types an old ONNX Runtime has no kernel for. `kernels` decides which nodes need one.

Invariant: a form gives what the operator gives, in the same precision. A function whose float64 form would need
float32 has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

# Integers that hold all values of narrower ones. Narrowing again wraps around, as the narrower ones' sums do.
_WIDER = {"int8": "int32", "int16": "int32", "uint8": "int32", "uint16": "int32", "bool": "int32", "uint32": "int64"}


class WrittenForm:
    """Nodes and constants that take the place of a node, once they are written."""

    def __init__(self, node: onnx.NodeProto, writes: Callable[[WrittenForm], str | None]) -> None:
        import onnx

        self.node = node
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        self._stem = node.output[0]
        self._writes = writes

    def write(self) -> None:
        """Write the nodes. The last one's output is the node's."""
        result = self._writes(self)
        if result is not None:
            self.add("Identity", result, output=self.node.output[0])

    @property
    def x(self) -> str:
        return str(self.node.input[0])

    def add(self, operator: str, *inputs: str | float, output: str = "", **attributes: Any) -> str:
        """Add a node and return its output's name. A number among the inputs is a float64 constant."""
        import onnx

        names = [each if isinstance(each, str) else self.constant(np.float64(each)) for each in inputs]
        output = output or f"{self._stem}__{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        import onnx

        name = f"{self._stem}__constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def cast(self, source: str, kind: str, output: str = "") -> str:
        import onnx

        return self.add("Cast", source, output=output, to=onnx.TensorProto.DataType.Value(kind.upper()))


Bound = Mapping[str, str]
# What makes a form: of the node, its types by parameter, the opset, and the types that there are kernels for.
Maker = Callable[["onnx.NodeProto", Bound, int, frozenset[str]], WrittenForm | None]


# -- float64 --------------------------------------------------------------------------------------


def _double(writes: Callable[[WrittenForm], str]) -> Maker:
    """Return what makes a form for float64 only."""

    def make(node: onnx.NodeProto, bound: Bound, opset: int, taken: frozenset[str]) -> WrittenForm | None:
        return WrittenForm(node, writes) if set(bound.values()) - {"bool"} == {"double"} else None

    return make


def _is_nan(form: WrittenForm) -> str:
    return form.add("Not", form.add("Equal", form.x, form.x))


def _rounded(form: WrittenForm, comparison: str, correction: str) -> str:
    """Return the nearest whole number, corrected by one where it lies on the wrong side."""
    nearest = form.add("Round", form.x)
    return form.add(correction, nearest, form.cast(form.add(comparison, nearest, form.x), "double"))


def _cos(form: WrittenForm) -> str:
    """Return 1 - 2 sin(x/2)²: halving is exact, adding a quarter turn is not."""
    sine = form.add("Sin", form.add("Mul", form.x, 0.5))
    return form.add("Sub", 1.0, form.add("Mul", 2.0, form.add("Mul", sine, sine)))


def _tan(form: WrittenForm) -> str:
    return form.add("Div", form.add("Sin", form.x), _cos(form))


def _exponentials(form: WrittenForm, how: str) -> str:
    up, down = form.add("Exp", form.x), form.add("Exp", form.add("Neg", form.x))
    return form.add("Mul", 0.5, form.add(how, up, down))


def _softplus(form: WrittenForm) -> str:
    """Return log(1 + exp(x)) so that no exponential overflows."""
    small = form.add("Exp", form.add("Neg", form.add("Abs", form.x)))
    return form.add("Add", form.add("Relu", form.x), form.add("Log", form.add("Add", 1.0, small)))


def _softsign(form: WrittenForm) -> str:
    return form.add("Div", form.x, form.add("Add", 1.0, form.add("Abs", form.x)))


def _below_zero(form: WrittenForm, below: str) -> str:
    return form.add("Where", form.add("Less", form.x, 0.0), below, form.x)


def _elu(form: WrittenForm) -> str:
    alpha = float(form.attributes.get("alpha", 1.0))
    return _below_zero(form, form.add("Mul", alpha, form.add("Sub", form.add("Exp", form.x), 1.0)))


def _leaky_relu(form: WrittenForm) -> str:
    return _below_zero(form, form.add("Mul", float(form.attributes.get("alpha", np.float32(0.01))), form.x))


def _prelu(form: WrittenForm) -> str:
    return _below_zero(form, form.add("Mul", str(form.node.input[1]), form.x))


def _selu(form: WrittenForm) -> str:
    alpha = float(form.attributes.get("alpha", np.float32(1.67326319217681884765625)))
    gamma = float(form.attributes.get("gamma", np.float32(1.05070102214813232421875)))
    below = form.add("Mul", alpha, form.add("Sub", form.add("Exp", form.x), 1.0))
    return form.add("Mul", gamma, _below_zero(form, below))


def _thresholded_relu(form: WrittenForm) -> str:
    alpha = float(form.attributes.get("alpha", 1.0))
    return form.add("Where", form.add("Greater", form.x, alpha), form.x, 0.0)


def _hard_sigmoid(form: WrittenForm) -> str:
    alpha, beta = (
        float(form.attributes.get(name, np.float32(value))) for name, value in (("alpha", 0.2), ("beta", 0.5))
    )
    line = form.add("Add", form.add("Mul", alpha, form.x), beta)
    return form.add("Max", 0.0, form.add("Min", 1.0, line))


def _hard_swish(form: WrittenForm) -> str:
    line = form.add("Add", form.add("Div", form.x, 6.0), 0.5)
    return form.add("Mul", form.x, form.add("Max", 0.0, form.add("Min", 1.0, line)))


def _mean(form: WrittenForm) -> str:
    return form.add("Div", form.add("Sum", *form.node.input), float(len(form.node.input)))


def _reduced(before: str, reduction: str, after: str) -> Maker:
    """Return what makes a reduction of another one: the functions are applied before and after it."""

    def make(node: onnx.NodeProto, bound: Bound, opset: int, taken: frozenset[str]) -> WrittenForm | None:
        def write(form: WrittenForm) -> str:
            attributes = dict(form.attributes)
            source = form.add(before, form.x) if before else form.x
            inputs = [source, *form.node.input[1:]]
            # The axes of a sum are an input from opset 13 on, those of the other reductions only later.
            if reduction == "ReduceSum" and opset >= 13 and "axes" in attributes:
                inputs.append(form.constant(np.array(attributes.pop("axes"), np.int64)))
            reduced = form.add(reduction, *inputs, **attributes)
            return form.add(after, reduced) if after else reduced

        return WrittenForm(node, write) if bound.get("T") == "double" else None

    return make


def _nonzero(form: WrittenForm) -> str:
    return form.add("NonZero", form.add("Not", form.add("Equal", form.x, 0.0)))


# -- integers -------------------------------------------------------------------------------------


def _widened(node: onnx.NodeProto, bound: Bound, opset: int, taken: frozenset[str]) -> WrittenForm | None:
    """Compute in wider integers: each input of the narrow type is cast, and so is each output back."""
    kind = bound.get("T", "")
    wide = _WIDER.get(kind)
    if wide not in taken:
        return None
    return WrittenForm(node, partial(_write_widened, opset=opset, kind=kind, wide=wide))


def _write_widened(form: WrittenForm, opset: int, kind: str, wide: str) -> None:
    import onnx

    schema = onnx.defs.get_schema(form.node.op_type, opset, "")

    def narrow(formals: Any, position: int) -> bool:
        return bool(formals[min(position, len(formals) - 1)].type_str == "T")

    inputs = [
        form.cast(name, wide) if name and narrow(schema.inputs, position) else name
        for position, name in enumerate(form.node.input)
    ]
    outputs = [f"{name}__wide" if narrow(schema.outputs, at) else name for at, name in enumerate(form.node.output)]
    form.nodes.append(onnx.helper.make_node(form.node.op_type, inputs, outputs, **form.attributes))
    for output, name in zip(outputs, form.node.output, strict=True):
        if output != name:
            form.cast(output, kind, output=name)


def _either(first: Maker, second: Maker) -> Maker:
    return lambda node, bound, opset, taken: first(node, bound, opset, taken) or second(node, bound, opset, taken)


_WIDENED = (
    "Add Sub Mul Equal Less LessOrEqual Greater GreaterOrEqual Max Min Where Split Tile Pad Trilu CumSum Neg Relu Clip "
    "ArgMax ArgMin ReduceMax ReduceMin ReduceSum TopK"
)

FORMS: dict[str, Maker] = {
    **dict.fromkeys(_WIDENED.split(), _widened),
    "IsNaN": _double(_is_nan),
    "Floor": _double(partial(_rounded, comparison="Greater", correction="Sub")),
    "Ceil": _double(partial(_rounded, comparison="Less", correction="Add")),
    "Cos": _double(_cos),
    "Tan": _double(_tan),
    "Sinh": _double(partial(_exponentials, how="Sub")),
    "Cosh": _double(partial(_exponentials, how="Add")),
    "Softplus": _double(_softplus),
    "Softsign": _double(_softsign),
    "Elu": _double(_elu),
    "LeakyRelu": _double(_leaky_relu),
    "PRelu": _double(_prelu),
    "Selu": _double(_selu),
    "ThresholdedRelu": _double(_thresholded_relu),
    "HardSigmoid": _double(_hard_sigmoid),
    "HardSwish": _double(_hard_swish),
    "Mean": _double(_mean),
    "ReduceL1": _reduced("Abs", "ReduceSum", ""),
    "ReduceL2": _reduced("", "ReduceSumSquare", "Sqrt"),
    "ReduceLogSum": _reduced("", "ReduceSum", "Log"),
    "NonZero": _either(_double(_nonzero), _widened),
}
