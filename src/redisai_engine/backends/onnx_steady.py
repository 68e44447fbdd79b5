"""
Which ONNX graphs are steady: their run time depends on the shapes of their inputs, not on their values.

Theory of operation. `_STEADY` lists the operators whose work follows from the shapes of their inputs. Some take a
shape, a count or positions as an input, which decides how much there is to do: such an input has to be *fixed*, which
means that it follows from constants and shapes alone. Everything else isn't steady, whatever it is: operators that
loop, choose, or make large tensors of a few numbers, operators of other domains, and a model's own functions.

Trees are walked by values. How far is bounded by their number of nodes, so `most_rows` bounds the rows.
"""

from __future__ import annotations

from redisai_engine.backends.onnx_file import Node, OnnxFile, Operator

_ML = "ai.onnx.ml"

#: Operators of ONNX' own domain; all inputs may have any values.
_ANY_VALUES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd
BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant Conv ConvInteger ConvTranspose Cos Cosh
CumSum DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Flatten Floor
Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
MeanVarianceNormalization Min Mish Mod Mul Neg Not Or PRelu Pow QLinearConv QLinearMatMul QuantizeLinear
RMSNormalization Reciprocal Relu Round Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
Softmax Softplus Softsign SpaceToDepth Sqrt StringNormalizer Sub Sum Tan Tanh TfIdfVectorizer ThresholdedRelu
Transpose Trilu Where Xor
"""

#: Operators of ONNX' own domain with inputs that have to be fixed, by their positions.
_SOME_FIXED = {
    "GRU": (4,),
    "LSTM": (4,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "RNN": (4,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    **{
        f"Reduce{kind}": (1,)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
}

_OF_ML = """
ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier LinearRegressor
Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
ZipMap
"""

_STEADY: dict[Operator, tuple[int, ...]] = {
    **{("", name): () for name in _ANY_VALUES.split()},
    **{("", name): positions for name, positions in _SOME_FIXED.items()},
    **{(_ML, name): () for name in _OF_ML.split()},
}

#: Their outputs are fixed whatever their inputs are.
_OF_SHAPES = {("", "Constant"), ("", "Shape"), ("", "Size")}

#: Steps through trees that a run in the event loop may take at worst, each of some nanoseconds.
_MOST_STEPS = 20_000_000

_LEAST_NODE_BYTES = 16  # a tree's node is at least eight numbers, of at least two bytes each


def is_steady(file: OnnxFile) -> bool:
    """Return whether the run time of a model depends on the shapes of its inputs only."""
    if file.inner or file.functions:
        return False
    fixed = set(file.constants)
    for node in file.nodes:
        if not _is_steady(node, fixed):
            return False
        if node.operator in _OF_SHAPES or all(name in fixed for name in node.inputs if name):
            fixed.update(node.outputs)
    return True


def most_rows(file: OnnxFile) -> int:
    """Return for how many rows a steady model's trees can be walked in bounded time, whatever their form."""
    trees = sum(node.size for node in file.nodes if node.domain == _ML and node.type.startswith("TreeEnsemble"))
    return _MOST_STEPS // max(1, trees // _LEAST_NODE_BYTES)


def _is_steady(node: Node, fixed: set[str]) -> bool:
    positions = _STEADY.get(node.operator)
    if positions is None:
        return False
    given = [node.inputs[position] for position in positions if position < len(node.inputs)]
    return all(name in fixed for name in given if name)
