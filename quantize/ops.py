"""The ops of a float ONNX model that int8 is made of: the one list of what is supported."""

from __future__ import annotations

from kws.errors import KwsError

SHARED_SCALE_OPS = frozenset({"Slice", "Concat", "Pad", "AveragePool", "MaxPool", "Flatten", "Reshape", "Squeeze"})
PROBABILITY_OPS = frozenset({"Sigmoid", "Softmax"})
DENSE_OPS = frozenset({"Gemm", "MatMul"})
WEIGHTED_OPS = DENSE_OPS | {"Conv"}
BROADCAST_OPS = frozenset({"Add", "Mul"})
SUPPORTED_OPS = (
    SHARED_SCALE_OPS
    | PROBABILITY_OPS
    | WEIGHTED_OPS
    | BROADCAST_OPS
    | {"Relu", "Clip", "HardSwish", "ReduceMean", "GlobalAveragePool"}
)
FUSING_OPS = WEIGHTED_OPS | BROADCAST_OPS

REWRITTEN_OPS = frozenset(
    {
        "BatchNormalization",
        "Div",
        "GlobalMaxPool",
        "HardSigmoid",
        "Identity",
        "ReduceMax",
        "Sub",
        "Transpose",
        "Unsqueeze",
    }
)
"""What `quantize.rewrites` turns into SUPPORTED_OPS, where it can."""


def unsupported(node: str, op_type: str) -> KwsError:
    """The refusal of `node` (its op type and name): its op, or this use of it, has no int8 form."""
    known = op_type in SUPPORTED_OPS | REWRITTEN_OPS
    what = "there is no int8 form of this use of the op" if known else "there is no int8 form of this op"
    return KwsError(f"{node}: {what}; build the model from {', '.join(sorted(SUPPORTED_OPS | REWRITTEN_OPS))}.")
