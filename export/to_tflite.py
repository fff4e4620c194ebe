"""Integer graph -> TFLite flatbuffer (schema version 3), small enough to deploy as it is.

Names are left out, and whatever is equal is written once: vectors, option and quantization tables, buffers and
whole constant tensors. Flatbuffers allow it: an offset may be used more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.graph import (
    PLAIN_NUMBERS,
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
    Graph,
    HardSwish,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Op,
    Pad,
    Padding,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
)
from kws import __version__
from quantize.affine import Affine, StepType

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16
_NO_DATA = 0
_CONVOLUTIONS = (Conv2D, DepthwiseConv2D)

_PADDING = {Padding.SAME: schema.Padding.SAME, Padding.VALID: schema.Padding.VALID}
_ACTIVATION = {
    Activation.NONE: schema.ActivationFunctionType.NONE,
    Activation.RELU: schema.ActivationFunctionType.RELU,
    Activation.RELU6: schema.ActivationFunctionType.RELU6,
}
_TENSOR_TYPE = {
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
# The lowest version of each op that has int8 and int16 activations, after TensorFlow Lite's own op versioning.
_VERSIONS: dict[str, dict[StepType, int]] = {
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
class _Encoding:
    """An op in the schema's terms; int32 `constants` are its last inputs."""

    builtin: str
    table: str = ""
    options: tuple[tuple[str, int | float], ...] = ()
    constants: tuple[npt.NDArray[np.int32], ...] = ()


def to_tflite(graph: Graph) -> bytes:
    """The flatbuffer of `graph`. The same graph gives the same bytes."""
    return _Writer(graph).model()


def _encode(attributes: Attributes, dtype: StepType) -> _Encoding:
    """How the schema spells an op on activations of `dtype`."""
    match attributes:
        case Conv2D() | DepthwiseConv2D():
            return _encode_convolution(attributes)
        case AveragePool2D() | MaxPool2D():
            return _encode_pool(attributes)
        case FullyConnected(activation=activation):
            return _Encoding(builtin="FULLY_CONNECTED", table="FullyConnected", options=_fused(activation))
        case Add(activation=activation):
            # Else TensorFlow Lite takes int16 scales for powers of two.
            any_scale = (("PotScaleInt16", 0),) if dtype == "int16" else ()
            return _Encoding(builtin="ADD", table="Add", options=(*_fused(activation), *any_scale))
        case Mul(activation=activation):
            return _Encoding(builtin="MUL", table="Mul", options=_fused(activation))
        case Relu():
            return _Encoding(builtin="RELU")
        case Logistic():
            return _Encoding(builtin="LOGISTIC")
        case HardSwish():
            return _Encoding(builtin="HARD_SWISH")
        case Cast():
            types = (("InDataType", schema.TensorType.INT8), ("OutDataType", schema.TensorType.INT32))
            return _Encoding(builtin="CAST", table="Cast", options=types)
        case Gather():
            return _Encoding(builtin="GATHER", table="Gather", options=(("Axis", 0),))
        case Softmax():
            return _Encoding(builtin="SOFTMAX", table="Softmax", options=(("Beta", 1.0),))
        case Slice(begin=begin, size=size):
            return _Encoding(builtin="SLICE", constants=(_int32(begin), _int32(size)))
        case Concatenation(axis=axis):
            return _Encoding(builtin="CONCATENATION", table="Concatenation", options=(("Axis", axis),))
        case Pad(paddings=paddings):
            return _Encoding(builtin="PAD", constants=(_int32(paddings),))
        case Reshape(shape=shape):
            return _Encoding(builtin="RESHAPE", constants=(_int32(shape),))
        case Transpose(order=order):
            return _Encoding(builtin="TRANSPOSE", constants=(_int32(order),))
        case Mean(axes=axes, keep_dims=keep_dims):
            return _Encoding(
                builtin="MEAN",
                table="Reducer",
                options=(("KeepDims", int(keep_dims)),),
                constants=(_int32(axes),),
            )


def _encode_convolution(attributes: Conv2D | DepthwiseConv2D) -> _Encoding:
    options = (
        ("Padding", _PADDING[attributes.padding]),
        ("StrideH", attributes.stride[0]),
        ("StrideW", attributes.stride[1]),
        ("DilationHFactor", attributes.dilation[0]),
        ("DilationWFactor", attributes.dilation[1]),
        *_fused(attributes.activation),
    )
    if isinstance(attributes, Conv2D):
        return _Encoding(builtin="CONV_2D", table="Conv2D", options=options)
    multiplier = ("DepthMultiplier", attributes.depth_multiplier)
    return _Encoding(builtin="DEPTHWISE_CONV_2D", table="DepthwiseConv2D", options=(*options, multiplier))


def _encode_pool(attributes: AveragePool2D | MaxPool2D) -> _Encoding:
    options = (
        ("Padding", _PADDING[attributes.padding]),
        ("StrideH", attributes.stride[0]),
        ("StrideW", attributes.stride[1]),
        ("FilterHeight", attributes.window[0]),
        ("FilterWidth", attributes.window[1]),
        *_fused(attributes.activation),
    )
    builtin = "AVERAGE_POOL_2D" if isinstance(attributes, AveragePool2D) else "MAX_POOL_2D"
    return _Encoding(builtin=builtin, table="Pool2D", options=options)


def _fused(activation: Activation) -> tuple[tuple[str, int], ...]:
    return (("FusedActivationFunction", _ACTIVATION[activation]),)


def _int32(values: Sequence[Any]) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


class _Writer:
    """A flatbuffer under construction: everything goes through `_once`, so equal things share an offset."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        # A convolution derives its bias scale from input and weights; FULLY_CONNECTED compares it with what is written.
        self._convolution_biases = {op.inputs[2] for op in graph.ops if isinstance(op.attributes, _CONVOLUTIONS)}
        self._builder = flatbuffers.Builder(1 << 16)
        self._written: dict[Hashable, int] = {}
        self._buffers: list[int] = []
        self._tensors: list[int] = []
        self._codes: list[int] = []
        self._indices: dict[Hashable, int] = {}

    def model(self) -> bytes:
        graph = self._graph
        self._buffers.append(self._table("Buffer", {}))
        activations = [tensor for tensor in graph.tensors.values() if tensor.data is None]
        index_of = {tensor.name: self._append(self._tensors, self._tensor(tensor, _NO_DATA)) for tensor in activations}
        for tensor in graph.tensors.values():
            if tensor.data is not None:
                index_of[tensor.name] = self._constant(tensor)
        operators = [self._operator(op, index_of) for op in graph.ops]
        subgraph = self._table(
            "SubGraph",
            {
                "Tensors": self._offsets(self._tensors),
                "Inputs": self._vector(_int32([index_of[name] for name in graph.inputs])),
                "Outputs": self._vector(_int32([index_of[name] for name in graph.outputs])),
                "Operators": self._offsets(operators),
            },
        )
        root = self._table(
            "Model",
            {
                "Version": SCHEMA_VERSION,
                "OperatorCodes": self._offsets(self._codes),
                "Subgraphs": self._offsets([subgraph]),
                "Description": self._builder.CreateString(f"kws {__version__}"),
                "Buffers": self._offsets(self._buffers),
            },
        )
        self._builder.Finish(root, FILE_IDENTIFIER)
        return bytes(self._builder.Output())

    def _operator(self, op: Op, index_of: dict[str, int]) -> int:
        dtype = self._graph.tensors[op.output].affine.dtype
        encoding = _encode(op.attributes, dtype)
        constants = [self._int32_constant(values) for values in encoding.constants]
        fields = {
            "OpcodeIndex": self._code(encoding.builtin, dtype),
            "Inputs": self._vector(_int32([*(index_of[name] for name in op.inputs), *constants])),
            "Outputs": self._vector(_int32([index_of[op.output]])),
        }
        if encoding.table:
            fields["BuiltinOptions"] = self._table(f"{encoding.table}Options", dict(encoding.options))
            fields["BuiltinOptionsType"] = getattr(schema.BuiltinOptions, f"{encoding.table}Options")
        return self._table("Operator", fields)

    def _code(self, name: str, dtype: StepType) -> int:
        """The index of the op's code; readers older than schema 3a look at the deprecated field."""
        builtin = getattr(schema.BuiltinOperator, name)
        fields = {"DeprecatedBuiltinCode": builtin, "BuiltinCode": builtin, "Version": _VERSIONS[name][dtype]}
        return self._index(("code", builtin), self._codes, lambda: self._table("OperatorCode", fields))

    def _constant(self, tensor: Tensor) -> int:
        assert tensor.data is not None
        offset = self._tensor(tensor, self._buffer(tensor.data))
        return self._index(("constant", offset), self._tensors, lambda: offset)

    def _int32_constant(self, values: npt.NDArray[np.int32]) -> int:
        fields = {
            "Shape": self._vector(_int32(values.shape)),
            "Buffer": self._buffer(values),
            "Type": schema.TensorType.INT32,
        }
        offset = self._table("Tensor", fields)
        return self._index(("constant", offset), self._tensors, lambda: offset)

    def _tensor(self, tensor: Tensor, buffer: int) -> int:
        fields = {
            "Shape": self._vector(_int32(tensor.shape)),
            "Buffer": buffer,
            "Type": _TENSOR_TYPE[tensor.dtype],
        }
        if tensor.name not in self._convolution_biases and (tensor.dtype, tensor.affine) != ("int32", PLAIN_NUMBERS):
            fields["Quantization"] = self._quantization(tensor.affine)
        return self._table("Tensor", fields)

    def _quantization(self, affine: Affine) -> int:
        scales = affine.scale.reshape(-1)
        fields = {
            "Scale": self._vector(scales),
            "ZeroPoint": self._vector(np.full(scales.size, affine.zero_point, np.int64)),
            "QuantizedDimension": affine.axis or 0,
        }
        return self._table("QuantizationParameters", fields)

    def _buffer(self, values: npt.NDArray[Any]) -> int:
        data = values.astype(values.dtype.newbyteorder("<")).tobytes()
        return self._index(("buffer", data), self._buffers, lambda: self._table("Buffer", {"Data": self._bytes(data)}))

    def _bytes(self, data: bytes) -> int:
        self._builder.Prep(_BUFFER_ALIGNMENT, len(data))
        return int(self._builder.CreateByteVector(data))

    def _vector(self, values: npt.NDArray[Any]) -> int:
        key = ("vector", values.dtype.str, values.tobytes())
        return self._once(key, lambda: self._builder.CreateNumpyVector(values))

    def _table(self, name: str, fields: Mapping[str, int | float]) -> int:
        return self._once(("table", name, *fields.items()), partial(self._new_table, name, fields))

    def _new_table(self, name: str, fields: Mapping[str, int | float]) -> int:
        getattr(schema, f"{name}Start")(self._builder)
        for field, value in fields.items():
            getattr(schema, f"{name}Add{field}")(self._builder, value)
        return int(getattr(schema, f"{name}End")(self._builder))

    def _offsets(self, offsets: list[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def _once(self, key: Hashable, write: Callable[[], int]) -> int:
        if key not in self._written:
            self._written[key] = write()
        return self._written[key]

    def _index(self, key: Hashable, entries: list[int], write: Callable[[], int]) -> int:
        """The index in `entries` of what `key` stands for, appended by `write` the first time."""
        if key not in self._indices:
            self._indices[key] = self._append(entries, write())
        return self._indices[key]

    @staticmethod
    def _append(entries: list[int], offset: int) -> int:
        entries.append(offset)
        return len(entries) - 1
