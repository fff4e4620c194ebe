"""Facts read out of an untrusted TFLite file, without TensorFlow and without an interpreter.

`export.flatbuffer` holds each table, vector and string against the bounds of the file; only the enumerations come
from the schema bindings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from export.flatbuffer import DamagedError, Span, Table, follow, unpack
from export.labels_hash import LABELS_HASH
from export.memory_plan import MEMORY_LAYOUT
from kws.errors import KwsError

TFLITE_IDENTIFIER = b"TFL3"
TFLITE_SCHEMA_VERSION = 3
# Far above any model that fits a microcontroller; they bound the work that a hostile file can ask for.
MAX_FILE_BYTES = 16 << 20
MAX_RANK = 8
MAX_OPERANDS = 64
MAX_WINDOW = 1 << 12
MAX_OFFSET = 32 << 20
NO_TENSOR = -1
FREE = -1
_LAYOUT_HEADER = 3

_OP_NAMES: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_DTYPES: dict[int, str] = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
_DTYPE_BYTES = {"INT8": 1, "UINT8": 1, "INT16": 2, "INT32": 4, "FLOAT32": 4, "INT64": 8}


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """Shape (NHWC for images), dtype in TFLite's spelling ("INT8"), and the per-tensor affine quantization.

    real = scale * (quantized - zero_point); both are None for a tensor without per-tensor quantization. `data` is where
    a constant's bytes lie in the file, None for an activation; `quantization` is where scales and zero points lie.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    data: Span | None
    quantization: tuple[Span, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * _DTYPE_BYTES.get(self.dtype, max(_DTYPE_BYTES.values()))

    @property
    def scales(self) -> int:
        """0 without quantization, 1 per tensor, more per channel."""
        return self.quantization[1][1] // 4 if self.quantization else 0


@dataclass(frozen=True, kw_only=True)
class WindowFacts:
    """How a convolution or pool slides, each (along H, along W); `size` is None for convolutions (see the weights)."""

    size: tuple[int, int] | None
    stride: tuple[int, int]
    dilation: tuple[int, int]
    same_padding: bool


@dataclass(frozen=True, kw_only=True)
class OpFacts:
    """One op: its name in the schema's spelling ("CONV_2D") and the tensors it reads and writes, by index.

    NO_TENSOR stands for an optional operand that is absent; `window` is None but for convolutions and pools.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    window: WindowFacts | None


@dataclass(frozen=True, kw_only=True)
class TfliteFacts:
    """What a TFLite model says of itself; `operators` are in execution order.

    `offsets`, if there are any, are where each tensor lies in the arena's head; FREE leaves that to TFLM.
    `labels_sha256` is that of `export.labels_hash`, None in a model that was made without.
    """

    operators: tuple[OpFacts, ...]
    tensors: tuple[TensorFacts, ...]
    input_index: int
    output_index: int
    offsets: tuple[int, ...] = ()
    labels_sha256: bytes | None = None

    @property
    def ops(self) -> tuple[str, ...]:
        return tuple(op.name for op in self.operators)

    @property
    def input(self) -> TensorFacts:
        return self.tensors[self.input_index]

    @property
    def output(self) -> TensorFacts:
        return self.tensors[self.output_index]


def read_tflite_bytes(path: Path) -> bytes:
    """The bytes of a file that calls itself a TFLite model. Raises KwsError if it cannot be read or does not."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror}); give the path of a .tflite file.") from error
    _require_identifier(data, str(path))
    return data


def parse_tflite(data: bytes, source: str) -> TfliteFacts:
    """The facts of a TFLite model; `source` names it in the error.

    Raises KwsError if it is no TFLite model, is damaged or cut short, or has anything but one subgraph with one
    input and one output.
    """
    _require_identifier(data, source)
    if len(data) > MAX_FILE_BYTES:
        raise KwsError(f"{source}: has {len(data)} bytes, too many for a microcontroller model; give another file.")
    try:
        return _model_facts(data)
    except DamagedError as error:
        raise KwsError(f"{source}: is a damaged TFLite model ({error}); run kws quantize again.") from error


def _require_identifier(data: bytes, source: str) -> None:
    if data[4:8] != TFLITE_IDENTIFIER:
        raise KwsError(f"{source}: is no TFLite model; give the .tflite file that kws quantize wrote.")


class _Model(IntEnum):
    """Field ids of the tables in TFLite's schema.fbs, here and below."""

    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, METADATA_BUFFER, METADATA = range(7)


class _Metadata(IntEnum):
    NAME, BUFFER = range(2)


class _Graph(IntEnum):
    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class _Tensor(IntEnum):
    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION = range(5)


class _Quantization(IntEnum):
    SCALE, ZERO_POINT = 2, 3


class _Op(IntEnum):
    CODE, INPUTS, OUTPUTS, OPTIONS_TYPE, OPTIONS = range(5)


class _OpCode(IntEnum):
    DEPRECATED_BUILTIN, CUSTOM, VERSION, BUILTIN = range(4)


class _Buffer(IntEnum):
    DATA = 0


class _Conv2D(IntEnum):
    PADDING, STRIDE_W, STRIDE_H, ACTIVATION, DILATION_W, DILATION_H = range(6)


class _DepthwiseConv2D(IntEnum):
    PADDING, STRIDE_W, STRIDE_H, MULTIPLIER, ACTIVATION, DILATION_W, DILATION_H = range(7)


class _Pool2D(IntEnum):
    PADDING, STRIDE_W, STRIDE_H, SIZE_W, SIZE_H = range(5)


_Windowed = type[_Conv2D] | type[_DepthwiseConv2D] | type[_Pool2D]
_WINDOWED: dict[str, tuple[int, _Windowed]] = {
    "CONV_2D": (schema.BuiltinOptions.Conv2DOptions, _Conv2D),
    "DEPTHWISE_CONV_2D": (schema.BuiltinOptions.DepthwiseConv2DOptions, _DepthwiseConv2D),
    "AVERAGE_POOL_2D": (schema.BuiltinOptions.Pool2DOptions, _Pool2D),
    "MAX_POOL_2D": (schema.BuiltinOptions.Pool2DOptions, _Pool2D),
}


def _model_facts(data: bytes) -> TfliteFacts:
    model = Table.at(data, follow(data, 0))
    version = model.scalar(_Model.VERSION, "<I", default=0)
    if version != TFLITE_SCHEMA_VERSION:
        raise DamagedError(f"schema version {version} instead of {TFLITE_SCHEMA_VERSION}")
    model.check_bytes(_Model.DESCRIPTION, terminated=True)
    buffers = model.tables(_Model.BUFFERS)
    for buffer in buffers:
        buffer.check_bytes(_Buffer.DATA)
    graphs = model.tables(_Model.SUBGRAPHS)
    if len(graphs) != 1:
        raise DamagedError(f"{len(graphs)} subgraphs instead of 1")
    graphs[0].check_bytes(_Graph.NAME, terminated=True)
    tensors = tuple(_tensor_facts(tensor, buffers) for tensor in graphs[0].tables(_Graph.TENSORS))
    codes = [_op_name(code) for code in model.tables(_Model.OPERATOR_CODES)]
    operators = tuple(_op_facts(op, codes, len(tensors)) for op in graphs[0].tables(_Graph.OPERATORS))
    if not operators:
        raise DamagedError("no operators")
    return TfliteFacts(
        operators=operators,
        tensors=tensors,
        offsets=_memory_layout(model, buffers, len(tensors)),
        labels_sha256=_labels_sha256(model, buffers),
        input_index=_only(graphs[0], _Graph.INPUTS, len(tensors)),
        output_index=_only(graphs[0], _Graph.OUTPUTS, len(tensors)),
    )


def _tensor_facts(tensor: Table, buffers: list[Table]) -> TensorFacts:
    tensor.check_bytes(_Tensor.NAME, terminated=True)
    shape = tuple(int(size) for size in tensor.numbers(_Tensor.SHAPE, "i", limit=MAX_RANK))
    if any(size < 1 for size in shape):
        raise DamagedError(f"a tensor of shape {list(shape)}")
    dtype = tensor.scalar(_Tensor.TYPE, "<b", default=schema.TensorType.FLOAT32)
    if dtype not in _DTYPES:
        raise DamagedError(f"a tensor of unknown type {dtype}")
    buffer = tensor.scalar(_Tensor.BUFFER, "<I", default=0)
    if buffer >= len(buffers):
        raise DamagedError(f"a tensor in buffer {buffer} of {len(buffers)}")
    quantization = tensor.table(_Tensor.QUANTIZATION)
    scale, zero_point = _per_tensor_quantization(quantization)
    return TensorFacts(
        shape=shape,
        dtype=_DTYPES[dtype],
        scale=scale,
        zero_point=zero_point,
        data=_constant_data(buffers[buffer], shape, _DTYPES[dtype]),
        quantization=_quantization_spans(quantization),
    )


def _constant_data(buffer: Table, shape: tuple[int, ...], dtype: str) -> Span | None:
    span = buffer.vector_span(_Buffer.DATA, "B")
    if span[1] == 0:
        return None
    if dtype in _DTYPE_BYTES and span[1] != math.prod(shape) * _DTYPE_BYTES[dtype]:
        raise DamagedError(f"{span[1]} bytes for a constant of shape {list(shape)}")
    return span


def _quantization_spans(quantization: Table | None) -> tuple[Span, ...]:
    if quantization is None:
        return ()
    scales = quantization.vector_span(_Quantization.SCALE, "f")
    zero_points = quantization.vector_span(_Quantization.ZERO_POINT, "q")
    return quantization.span, scales, zero_points


def _per_tensor_quantization(quantization: Table | None) -> tuple[float | None, int | None]:
    if quantization is None:
        return None, None
    if quantization.length(_Quantization.SCALE, "f") != 1 or quantization.length(_Quantization.ZERO_POINT, "q") != 1:
        return None, None
    (scale,) = quantization.numbers(_Quantization.SCALE, "f", limit=1)
    (zero_point,) = quantization.numbers(_Quantization.ZERO_POINT, "q", limit=1)
    if not math.isfinite(scale) or scale <= 0:
        raise DamagedError(f"a tensor of scale {scale}")
    return float(scale), int(zero_point)


def _op_name(code: Table) -> str:
    code.check_bytes(_OpCode.CUSTOM, terminated=True)
    # Codes below 127 stand in both fields, higher ones in the newer field only.
    number = max(
        code.scalar(_OpCode.DEPRECATED_BUILTIN, "<b", default=0), code.scalar(_OpCode.BUILTIN, "<i", default=0)
    )
    if number not in _OP_NAMES:
        raise DamagedError(f"unknown operator code {number}")
    return _OP_NAMES[number]


def _memory_layout(model: Table, buffers: Sequence[Table], tensors: int) -> tuple[int, ...]:
    """The offsets that TFLM will use without a check of its own; () where the model leaves all to TFLM."""
    found = _metadata(model, buffers, MEMORY_LAYOUT)
    if found is None:
        return ()
    start, size = found
    if size != 4 * (_LAYOUT_HEADER + tensors):
        raise DamagedError("a memory layout for another number of tensors")
    _, _, count, *offsets = unpack(model.data, start, f"<{_LAYOUT_HEADER + tensors}i")
    if count != tensors or any(not FREE <= offset <= MAX_OFFSET for offset in offsets):
        raise DamagedError("a memory layout out of range")
    return tuple(offsets)


def _labels_sha256(model: Table, buffers: Sequence[Table]) -> bytes | None:
    found = _metadata(model, buffers, LABELS_HASH)
    return None if found is None else model.data[found[0] : sum(found)]


def _metadata(model: Table, buffers: Sequence[Table], wanted: str) -> Span | None:
    """Where the metadata of that name lie in the file."""
    found = []
    for entry in model.tables(_Model.METADATA):
        entry.check_bytes(_Metadata.NAME, terminated=True)
        start, size = entry.vector_span(_Metadata.NAME, "B")
        if model.data[start : start + size] == wanted.encode():
            found.append(entry.scalar(_Metadata.BUFFER, "<I", default=0))
    if not found:
        return None
    if len(found) > 1 or found[0] >= len(buffers):
        raise DamagedError(f"metadata {wanted} that cannot be read")
    return buffers[found[0]].vector_span(_Buffer.DATA, "B")


def _op_facts(op: Table, codes: list[str], tensor_count: int) -> OpFacts:
    inputs = tuple(int(index) for index in op.numbers(_Op.INPUTS, "i", limit=MAX_OPERANDS))
    outputs = tuple(int(index) for index in op.numbers(_Op.OUTPUTS, "i", limit=MAX_OPERANDS))
    if not all(NO_TENSOR <= index < tensor_count for index in inputs) or not all(
        0 <= index < tensor_count for index in outputs
    ):
        raise DamagedError("an operator with a tensor that is not there")
    if not outputs:
        raise DamagedError("an operator without an output")
    code = op.scalar(_Op.CODE, "<I", default=0)
    if code >= len(codes):
        raise DamagedError(f"an operator of code {code} of {len(codes)}")
    return OpFacts(name=codes[code], inputs=inputs, outputs=outputs, window=_window(op, codes[code]))


def _window(op: Table, name: str) -> WindowFacts | None:
    options = op.table(_Op.OPTIONS)
    if name not in _WINDOWED:
        return None
    options_type, fields = _WINDOWED[name]
    if options is None or op.scalar(_Op.OPTIONS_TYPE, "<B", default=0) != options_type:
        raise DamagedError(f"{name} without its options")
    return WindowFacts(
        size=_pair(options, name, "SIZE", default=0) if fields is _Pool2D else None,
        stride=_pair(options, name, "STRIDE", default=0),
        dilation=(1, 1) if fields is _Pool2D else _pair(options, name, "DILATION", default=1),
        same_padding=options.scalar(fields["PADDING"], "<b", default=0) == schema.Padding.SAME,
    )


def _pair(options: Table, name: str, what: str, default: int) -> tuple[int, int]:
    _, fields = _WINDOWED[name]
    height, width = (options.scalar(fields[f"{what}_{axis}"], "<i", default) for axis in "HW")
    if not 1 <= height <= MAX_WINDOW or not 1 <= width <= MAX_WINDOW:
        raise DamagedError(f"{name} of {what.lower()} {height} x {width}")
    return height, width


def _only(graph: Table, field: _Graph, tensor_count: int) -> int:
    indexes = graph.numbers(field, "i", limit=MAX_OPERANDS)
    if len(indexes) != 1 or not 0 <= indexes[0] < tensor_count:
        raise DamagedError(f"not one valid tensor in {field.name.lower()}")
    return int(indexes[0])
