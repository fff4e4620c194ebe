"""How the TFLite schema spells each op of the graph: its code, version, option table and constant inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.graph import (
    Activation,
    Add,
    Attributes,
    AveragePool2D,
    Cast,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Gather,
    HardSwish,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Pad,
    Padding,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Transpose,
)
from quantize.affine import StepType

_PADDING = {Padding.SAME: schema.Padding.SAME, Padding.VALID: schema.Padding.VALID}
_ACTIVATION = {
    Activation.NONE: schema.ActivationFunctionType.NONE,
    Activation.RELU: schema.ActivationFunctionType.RELU,
    Activation.RELU6: schema.ActivationFunctionType.RELU6,
}
# The lowest version of each op that has int8 and int16 activations, after TensorFlow Lite's own op versioning.
VERSIONS: dict[str, dict[StepType, int]] = {
    "ADD": {"int8": 2, "int16": 3},
    "AVERAGE_POOL_2D": {"int8": 2, "int16": 3},
    "CAST": {"int8": 1},
    "CONCATENATION": {"int8": 2, "int16": 3},
    "CONV_2D": {"int8": 3, "int16": 4},
    "DEPTHWISE_CONV_2D": {"int8": 3, "int16": 5},
    "FULLY_CONNECTED": {"int8": 4, "int16": 7},
    "GATHER": {"int8": 2},
    "HARD_SWISH": {"int8": 1},
    "LOGISTIC": {"int8": 2, "int16": 3},
    "MAX_POOL_2D": {"int8": 2, "int16": 3},
    "MEAN": {"int8": 2, "int16": 3},
    "MUL": {"int8": 2, "int16": 4},
    "PAD": {"int8": 2, "int16": 3},
    "RELU": {"int8": 2, "int16": 3},
    "RESHAPE": {"int8": 1, "int16": 1},
    "SLICE": {"int8": 2, "int16": 4},
    "SOFTMAX": {"int8": 2, "int16": 3},
    "TRANSPOSE": {"int8": 2, "int16": 5},
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """An op in the schema's terms; int32 `constants` are its last inputs."""

    builtin: str
    table: str = ""
    options: tuple[tuple[str, int | float], ...] = ()
    constants: tuple[npt.NDArray[np.int32], ...] = ()


def encode(attributes: Attributes, dtype: StepType) -> Encoding:
    """How the schema spells an op on activations of `dtype`."""
    match attributes:
        case Conv2D() | DepthwiseConv2D():
            return _encode_convolution(attributes)
        case AveragePool2D() | MaxPool2D():
            return _encode_pool(attributes)
        case FullyConnected(activation=activation):
            return Encoding(builtin="FULLY_CONNECTED", table="FullyConnected", options=_fused(activation))
        case Add(activation=activation):
            # Else TensorFlow Lite takes int16 scales for powers of two.
            any_scale = (("PotScaleInt16", 0),) if dtype == "int16" else ()
            return Encoding(builtin="ADD", table="Add", options=(*_fused(activation), *any_scale))
        case Mul(activation=activation):
            return Encoding(builtin="MUL", table="Mul", options=_fused(activation))
        case Relu():
            return Encoding(builtin="RELU")
        case Logistic():
            return Encoding(builtin="LOGISTIC")
        case HardSwish():
            return Encoding(builtin="HARD_SWISH")
        case Cast():
            types = (("InDataType", schema.TensorType.INT8), ("OutDataType", schema.TensorType.INT32))
            return Encoding(builtin="CAST", table="Cast", options=types)
        case Gather():
            return Encoding(builtin="GATHER", table="Gather", options=(("Axis", 0),))
        case Softmax():
            return Encoding(builtin="SOFTMAX", table="Softmax", options=(("Beta", 1.0),))
        case Slice(begin=begin, size=size):
            return Encoding(builtin="SLICE", constants=(int32_array(begin), int32_array(size)))
        case Concatenation(axis=axis):
            return Encoding(builtin="CONCATENATION", table="Concatenation", options=(("Axis", axis),))
        case Pad(paddings=paddings):
            return Encoding(builtin="PAD", constants=(int32_array(paddings),))
        case Reshape(shape=shape):
            return Encoding(builtin="RESHAPE", constants=(int32_array(shape),))
        case Transpose(order=order):
            return Encoding(builtin="TRANSPOSE", constants=(int32_array(order),))
        case Mean(axes=axes, keep_dims=keep_dims):
            return Encoding(
                builtin="MEAN",
                table="Reducer",
                options=(("KeepDims", int(keep_dims)),),
                constants=(int32_array(axes),),
            )


def _encode_convolution(attributes: Conv2D | DepthwiseConv2D) -> Encoding:
    options = (
        ("Padding", _PADDING[attributes.padding]),
        ("StrideH", attributes.stride[0]),
        ("StrideW", attributes.stride[1]),
        ("DilationHFactor", attributes.dilation[0]),
        ("DilationWFactor", attributes.dilation[1]),
        *_fused(attributes.activation),
    )
    if isinstance(attributes, Conv2D):
        return Encoding(builtin="CONV_2D", table="Conv2D", options=options)
    multiplier = ("DepthMultiplier", attributes.depth_multiplier)
    return Encoding(builtin="DEPTHWISE_CONV_2D", table="DepthwiseConv2D", options=(*options, multiplier))


def _encode_pool(attributes: AveragePool2D | MaxPool2D) -> Encoding:
    options = (
        ("Padding", _PADDING[attributes.padding]),
        ("StrideH", attributes.stride[0]),
        ("StrideW", attributes.stride[1]),
        ("FilterHeight", attributes.window[0]),
        ("FilterWidth", attributes.window[1]),
        *_fused(attributes.activation),
    )
    builtin = "AVERAGE_POOL_2D" if isinstance(attributes, AveragePool2D) else "MAX_POOL_2D"
    return Encoding(builtin=builtin, table="Pool2D", options=options)


def _fused(activation: Activation) -> tuple[tuple[str, int], ...]:
    return (("FusedActivationFunction", _ACTIVATION[activation]),)


def int32_array(values: Sequence[Any]) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)
