"""
What is known of operators: which of them end the process, and what types their outputs have.

`tests/redisai_engine/backends/deadly/test_operators.py` runs all operators of the installed ONNX Runtime with the
smallest and largest integers, and compares the other tables with ONNX' own description.
"""

from __future__ import annotations

from redisai_engine.backends.onnx_file import Operator

_ML = "ai.onnx.ml"

#: Operators that end the process, found by running them. With True, only a division of INT32 or INT64 does; otherwise
#: they write to memory that isn't theirs, with unusual shapes and lengths.
DEADLY: dict[Operator, bool] = {
    ("", "Div"): True,
    ("", "DFT"): False,
    ("", "ReverseSequence"): False,
    ("", "RoiAlign"): False,
    ("", "STFT"): False,
}

_NEVER = """
Acos Acosh And Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Conv ConvTranspose Cos Cosh
DequantizeLinear Det Dropout Elu Equal Exp Floor GRU Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MaxPool Mean
MeanVarianceNormalization Mish Not Or QuantizeLinear RMSNormalization RNN Reciprocal Round Selu Sigmoid Sin Sinh Softmax
Softplus Softsign Sqrt Sum Tan Tanh ThresholdedRelu Xor
"""
_NEVER_OF_ML = """
FeatureVectorizer LinearRegressor Normalizer OneHotEncoder SVMRegressor Scaler TreeEnsemble TreeEnsembleRegressor
"""

#: Operators whose first output never has the type INT32 or INT64.
NEVER_INTEGERS: frozenset[Operator] = frozenset(
    [*(("", name) for name in _NEVER.split()), *((_ML, name) for name in _NEVER_OF_ML.split())]
)

_FIRST = """
Abs BitwiseNot CenterCropPad Clip Compress CumSum DepthToSpace Erf Expand Flatten Gather GatherElements GatherND
GridSample Identity Neg Pad Pow ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare Relu Reshape Resize Shrink Sign Slice SpaceToDepth Split Squeeze Tile TopK Transpose Trilu
Unique Unsqueeze Upsample
"""
_FIRST_TWO = "Add BitShift BitwiseAnd BitwiseOr BitwiseXor Div MatMul Mod Mul PRelu Sub"

#: Inputs, by their positions, that have the same type as the first output.
SAME_TYPE: dict[Operator, tuple[int, ...]] = {
    **{("", name): (0,) for name in _FIRST.split()},
    **{("", name): (0, 1) for name in _FIRST_TWO.split()},
    **{("", name): (0, 2) for name in ("Scatter", "ScatterElements", "ScatterND")},
    ("", "CastLike"): (1,),
    ("", "Gemm"): (0, 1, 2),
    ("", "OneHot"): (2,),
    ("", "Range"): (0, 1, 2),
    ("", "Where"): (1, 2),
    **{(_ML, name): (0,) for name in ("ArrayFeatureExtractor", "Binarizer", "Imputer")},
}

#: Operators all of whose inputs have the same type as the first output.
ALL_THE_SAME: frozenset[Operator] = frozenset(("", name) for name in ("Concat", "Einsum", "Max", "Min"))

#: Operators all of whose outputs have the same type.
SAME_OUTPUTS: frozenset[Operator] = frozenset({("", "Split")})

#: Operators that pass on the values of their first input, and no others.
PASSING: frozenset[Operator] = frozenset(("", name) for name in ("Identity", "Reshape", "Squeeze", "Unsqueeze"))
