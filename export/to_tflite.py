"""Integer graph -> TFLite flatbuffer (schema version 3), small enough to deploy as it is.

Names are left out, and whatever is equal is written once: vectors, option and quantization tables, buffers and
whole constant tensors. Flatbuffers allow it: an offset may be used more than once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.graph import (
    PLAIN_NUMBERS,
    Conv2D,
    DepthwiseConv2D,
    Graph,
    Op,
    Tensor,
)
from export.labels_hash import LABELS_HASH, labels_sha256
from export.memory_layout import memory_layout
from export.memory_plan import MEMORY_LAYOUT
from export.op_encoding import VERSIONS, Encoding, encode, int32_array
from kws import __version__
from quantize.affine import Affine, StepType

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16
_LENGTH_BYTES = 4
_NO_DATA = 0
_CONVOLUTIONS = (Conv2D, DepthwiseConv2D)

_TENSOR_TYPE = {
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}


def to_tflite(graph: Graph, *, packed: bool = False, labels: Sequence[str] = ()) -> bytes:
    """The flatbuffer of `graph`. The same graph gives the same bytes.

    `packed` adds a layout of the activations in memory that is denser than what TFLM finds, for 4 bytes a tensor.
    `labels`, in the order of the outputs, leave their hash in it (`export.labels_hash`).
    """
    return _Writer(graph).model(packed=packed, labels=labels)


def _bytes(values: npt.NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


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

    def model(self, *, packed: bool, labels: Sequence[str]) -> bytes:
        graph = self._graph
        self._number_codes()
        self._buffers.append(self._table("Buffer", {}))
        self._write_constants()
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
                "Inputs": self._vector(int32_array([index_of[name] for name in graph.inputs])),
                "Outputs": self._vector(int32_array([index_of[name] for name in graph.outputs])),
                "Operators": self._offsets(operators),
            },
        )
        metadata = [self._memory_layout(index_of)] if packed else []
        metadata += [self._metadata(LABELS_HASH, np.frombuffer(labels_sha256(labels), np.uint8))] if labels else []
        root = self._table(
            "Model",
            {
                "Version": SCHEMA_VERSION,
                "OperatorCodes": self._offsets(self._codes),
                "Subgraphs": self._offsets([subgraph]),
                "Description": self._builder.CreateString(f"kws {__version__}"),
                **({"Metadata": self._offsets(metadata)} if metadata else {}),
                "Buffers": self._offsets(self._buffers),
            },
        )
        self._builder.Finish(root, FILE_IDENTIFIER)
        return bytes(self._builder.Output())

    def _memory_layout(self, index_of: Mapping[str, int]) -> int:
        """TFLM's metadata: version, subgraph, number of tensors and the offset of each, -1 where TFLM is to choose."""
        offsets = np.full(len(self._tensors), -1, np.int32)
        for name, place in memory_layout(self._graph).items():
            offsets[index_of[name]] = place
        return self._metadata(MEMORY_LAYOUT, np.concatenate([int32_array([1, 0, len(offsets)]), offsets]))

    def _metadata(self, name: str, values: npt.NDArray[Any]) -> int:
        return self._table("Metadata", {"Name": self._builder.CreateString(name), "Buffer": self._buffer(values)})

    def _number_codes(self) -> None:
        """The most frequent op first: an index of zero takes no space."""
        kinds = Counter((self._encoding(op).builtin, self._dtype(op)) for op in self._graph.ops)
        for (builtin, dtype), _ in kinds.most_common():
            self._code(builtin, dtype)

    def _write_constants(self) -> None:
        """All data that must be aligned, with vectors that are needed anyway in the gaps in between."""
        tensors = self._graph.tensors.values()
        vectors: list[npt.NDArray[Any]] = [int32_array(tensor.shape) for tensor in tensors]
        vectors += [tensor.affine.scale.reshape(-1) for tensor in tensors if self._is_quantized(tensor)]
        fillers: dict[int, list[npt.NDArray[Any]]] = {}
        for vector in {(vector.dtype.str, vector.tobytes()): vector for vector in vectors}.values():
            fillers.setdefault((_LENGTH_BYTES + vector.nbytes) % _BUFFER_ALIGNMENT, []).append(vector)
        arrays: list[npt.NDArray[Any]] = [tensor.data for tensor in tensors if tensor.data is not None]
        arrays += [values for op in self._graph.ops for values in self._encoding(op).constants]
        for array in arrays:
            if ("buffer", _bytes(array)) not in self._indices:
                self._fill_gap(array.nbytes, fillers)
                self._buffer(array)

    def _fill_gap(self, size_bytes: int, fillers: dict[int, list[npt.NDArray[Any]]]) -> None:
        """Write vectors until `size_bytes` of data in front of them end up aligned, as far as `fillers` go."""
        while gap := -(self._builder.Offset() + size_bytes) % _BUFFER_ALIGNMENT:
            fitting = [size for size in (gap, 8, 4) if size <= gap and fillers.get(size)]
            if not fitting:
                return
            self._vector(fillers[fitting[0]].pop())

    def _encoding(self, op: Op) -> Encoding:
        return encode(op.attributes, self._dtype(op))

    def _dtype(self, op: Op) -> StepType:
        return self._graph.tensors[op.output].affine.dtype

    def _operator(self, op: Op, index_of: dict[str, int]) -> int:
        encoding = self._encoding(op)
        constants = [self._int32_constant(values) for values in encoding.constants]
        fields = {
            "OpcodeIndex": self._code(encoding.builtin, self._dtype(op)),
            "Inputs": self._vector(int32_array([*(index_of[name] for name in op.inputs), *constants])),
            "Outputs": self._vector(int32_array([index_of[op.output]])),
        }
        if encoding.table:
            fields["BuiltinOptions"] = self._table(f"{encoding.table}Options", dict(encoding.options))
            fields["BuiltinOptionsType"] = getattr(schema.BuiltinOptions, f"{encoding.table}Options")
        return self._table("Operator", fields)

    def _code(self, name: str, dtype: StepType) -> int:
        """The index of the op's code; readers older than schema 3a look at the deprecated field."""
        builtin = getattr(schema.BuiltinOperator, name)
        fields = {"DeprecatedBuiltinCode": builtin, "BuiltinCode": builtin, "Version": VERSIONS[name][dtype]}
        return self._index(("code", builtin), self._codes, lambda: self._table("OperatorCode", fields))

    def _constant(self, tensor: Tensor) -> int:
        assert tensor.data is not None
        offset = self._tensor(tensor, self._buffer(tensor.data))
        return self._index(("constant", offset), self._tensors, lambda: offset)

    def _int32_constant(self, values: npt.NDArray[np.int32]) -> int:
        fields = {
            "Shape": self._vector(int32_array(values.shape)),
            "Buffer": self._buffer(values),
            "Type": schema.TensorType.INT32,
        }
        offset = self._table("Tensor", fields)
        return self._index(("constant", offset), self._tensors, lambda: offset)

    def _tensor(self, tensor: Tensor, buffer: int) -> int:
        fields = {
            "Shape": self._vector(int32_array(tensor.shape)),
            "Buffer": buffer,
            "Type": _TENSOR_TYPE[tensor.dtype],
        }
        if self._is_quantized(tensor):
            fields["Quantization"] = self._quantization(tensor.affine)
        return self._table("Tensor", fields)

    def _is_quantized(self, tensor: Tensor) -> bool:
        is_number = (tensor.dtype, tensor.affine) == ("int32", PLAIN_NUMBERS)
        return tensor.name not in self._convolution_biases and not is_number

    def _quantization(self, affine: Affine) -> int:
        scales = affine.scale.reshape(-1)
        fields = {
            "Scale": self._vector(scales),
            "ZeroPoint": self._vector(np.full(scales.size, affine.zero_point, np.int64)),
            "QuantizedDimension": affine.axis or 0,
        }
        return self._table("QuantizationParameters", fields)

    def _buffer(self, values: npt.NDArray[Any]) -> int:
        data = _bytes(values)
        return self._index(("buffer", data), self._buffers, lambda: self._table("Buffer", {"Data": self._data(data)}))

    def _data(self, data: bytes) -> int:
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
