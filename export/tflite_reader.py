"""Facts read out of an untrusted TFLite file, without TensorFlow and without an interpreter.

The flatbuffer bindings in Python check nothing: a string that runs past the end is cut silently, and a negative
position counts from the end. So each table, vector and string is held against the bounds of the file here, and only
the enumerations come from the schema bindings.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from kws.errors import KwsError

TFLITE_IDENTIFIER = b"TFL3"
TFLITE_SCHEMA_VERSION = 3
# Far above any model that fits a microcontroller; they bound the work that a hostile file can ask for.
MAX_FILE_BYTES = 16 << 20
MAX_RANK = 8
MAX_OPERANDS = 64
MAX_TABLES = 1 << 16
MAX_VTABLE_BYTES = 256

_OP_NAMES: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_DTYPES: dict[int, str] = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """Shape (NHWC for images), dtype in TFLite's spelling ("INT8"), and the per-tensor affine quantization.

    real = scale * (quantized - zero_point); both are None for a tensor without per-tensor quantization.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True, kw_only=True)
class TfliteFacts:
    """What a TFLite model says of itself; `ops` are names in the schema's spelling ("CONV_2D"), in execution order."""

    ops: tuple[str, ...]
    input: TensorFacts
    output: TensorFacts
    tensor_count: int


def read_tflite(path: Path) -> TfliteFacts:
    """Read the facts of the TFLite file at `path`.

    Raises KwsError if it cannot be read, is no TFLite model, is damaged or cut short, or has anything but
    one subgraph with one input and one output.
    """
    return parse_tflite(read_tflite_bytes(path), source=str(path))


def read_tflite_bytes(path: Path) -> bytes:
    """The bytes of a file that calls itself a TFLite model. Raises KwsError if it cannot be read or does not."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror}); give the path of a .tflite file.") from error
    _require_identifier(data, str(path))
    return data


def parse_tflite(data: bytes, source: str) -> TfliteFacts:
    """`read_tflite` for a model in memory; `source` names it in the error (KwsError)."""
    _require_identifier(data, source)
    if len(data) > MAX_FILE_BYTES:
        raise KwsError(f"{source}: has {len(data)} bytes, too many for a microcontroller model; give another file.")
    try:
        return _model_facts(data)
    except _DamagedError as error:
        raise KwsError(f"{source}: is a damaged TFLite model ({error}); run kws quantize again.") from error


def _require_identifier(data: bytes, source: str) -> None:
    if data[4:8] != TFLITE_IDENTIFIER:
        raise KwsError(f"{source}: is no TFLite model; give the .tflite file that kws quantize wrote.")


class _DamagedError(Exception):
    """The bytes contradict the flatbuffer format, the TFLite schema, or what this project accepts."""


class _Model(IntEnum):
    """Field ids of the tables in TFLite's schema.fbs, here and below."""

    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS = range(5)


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


@dataclass(frozen=True)
class _Table:
    """One flatbuffer table (https://flatbuffers.dev/internals): `position` of the table, `fields` from its vtable."""

    data: bytes
    position: int
    fields: tuple[int, ...]

    @staticmethod
    def at(data: bytes, position: int) -> _Table:
        vtable = position - _unpack(data, position, "<i")[0]
        vtable_bytes, table_bytes = _unpack(data, vtable, "<HH")
        if not 4 <= vtable_bytes <= MAX_VTABLE_BYTES or vtable_bytes % 2 or table_bytes < 4:
            raise _DamagedError("a table without a vtable")
        fields = _unpack(data, vtable + 4, f"<{vtable_bytes // 2 - 2}H")
        _check_span(data, position, table_bytes)
        if any(field >= table_bytes for field in fields):
            raise _DamagedError("a field outside its table")
        return _Table(data, position, fields)

    def scalar(self, field: IntEnum, kind: str, default: int) -> int:
        place = self._place(field)
        return default if place is None else int(_unpack(self.data, place, kind)[0])

    def table(self, field: IntEnum) -> _Table | None:
        place = self._place(field)
        return None if place is None else _Table.at(self.data, _follow(self.data, place))

    def tables(self, field: IntEnum) -> list[_Table]:
        start, length = self._vector(field, item_bytes=4)
        if length > MAX_TABLES:
            raise _DamagedError(f"{length} {field.name.lower()}")
        return [_Table.at(self.data, _follow(self.data, start + 4 * index)) for index in range(length)]

    def length(self, field: IntEnum, kind: str) -> int:
        return self._vector(field, item_bytes=struct.calcsize(f"<{kind}"))[1]

    def numbers(self, field: IntEnum, kind: str, limit: int) -> tuple[float, ...]:
        start, length = self._vector(field, item_bytes=struct.calcsize(f"<{kind}"))
        if length > limit:
            raise _DamagedError(f"{field.name.lower()} of {length} numbers")
        return _unpack(self.data, start, f"<{length}{kind}")

    def check_bytes(self, field: IntEnum, terminated: bool = False) -> None:
        """Check that the byte vector, or string with its terminating zero, lies in the file."""
        start, length = self._vector(field, item_bytes=1)
        if start:
            _check_span(self.data, start, length + terminated)

    def _vector(self, field: IntEnum, item_bytes: int) -> tuple[int, int]:
        place = self._place(field)
        if place is None:
            return 0, 0
        start = _follow(self.data, place)
        length = int(_unpack(self.data, start, "<I")[0])
        _check_span(self.data, start + 4, length * item_bytes)
        return start + 4, length

    def _place(self, field: IntEnum) -> int | None:
        offset = self.fields[field] if field < len(self.fields) else 0
        return self.position + offset if offset else None


def _model_facts(data: bytes) -> TfliteFacts:
    model = _Table.at(data, _follow(data, 0))
    version = model.scalar(_Model.VERSION, "<I", default=0)
    if version != TFLITE_SCHEMA_VERSION:
        raise _DamagedError(f"schema version {version} instead of {TFLITE_SCHEMA_VERSION}")
    model.check_bytes(_Model.DESCRIPTION, terminated=True)
    buffers = model.tables(_Model.BUFFERS)
    for buffer in buffers:
        buffer.check_bytes(_Buffer.DATA)
    graphs = model.tables(_Model.SUBGRAPHS)
    if len(graphs) != 1:
        raise _DamagedError(f"{len(graphs)} subgraphs instead of 1")
    graphs[0].check_bytes(_Graph.NAME, terminated=True)
    tensors = [_tensor_facts(tensor, len(buffers)) for tensor in graphs[0].tables(_Graph.TENSORS)]
    codes = [_op_name(code) for code in model.tables(_Model.OPERATOR_CODES)]
    ops = tuple(_op_in_graph(op, codes, len(tensors)) for op in graphs[0].tables(_Graph.OPERATORS))
    if not ops:
        raise _DamagedError("no operators")
    return TfliteFacts(
        ops=ops,
        input=_only(graphs[0], _Graph.INPUTS, tensors),
        output=_only(graphs[0], _Graph.OUTPUTS, tensors),
        tensor_count=len(tensors),
    )


def _tensor_facts(tensor: _Table, buffer_count: int) -> TensorFacts:
    tensor.check_bytes(_Tensor.NAME, terminated=True)
    shape = tuple(int(size) for size in tensor.numbers(_Tensor.SHAPE, "i", limit=MAX_RANK))
    if any(size < 1 for size in shape):
        raise _DamagedError(f"a tensor of shape {list(shape)}")
    dtype = tensor.scalar(_Tensor.TYPE, "<b", default=schema.TensorType.FLOAT32)
    if dtype not in _DTYPES:
        raise _DamagedError(f"a tensor of unknown type {dtype}")
    buffer = tensor.scalar(_Tensor.BUFFER, "<I", default=0)
    if buffer >= buffer_count:
        raise _DamagedError(f"a tensor in buffer {buffer} of {buffer_count}")
    scale, zero_point = _per_tensor_quantization(tensor.table(_Tensor.QUANTIZATION))
    return TensorFacts(shape=shape, dtype=_DTYPES[dtype], scale=scale, zero_point=zero_point)


def _per_tensor_quantization(quantization: _Table | None) -> tuple[float | None, int | None]:
    if quantization is None:
        return None, None
    if quantization.length(_Quantization.SCALE, "f") != 1 or quantization.length(_Quantization.ZERO_POINT, "q") != 1:
        return None, None
    (scale,) = quantization.numbers(_Quantization.SCALE, "f", limit=1)
    (zero_point,) = quantization.numbers(_Quantization.ZERO_POINT, "q", limit=1)
    if not math.isfinite(scale) or scale <= 0:
        raise _DamagedError(f"a tensor of scale {scale}")
    return float(scale), int(zero_point)


def _op_name(code: _Table) -> str:
    code.check_bytes(_OpCode.CUSTOM, terminated=True)
    # Codes below 127 stand in both fields, higher ones in the newer field only.
    number = max(
        code.scalar(_OpCode.DEPRECATED_BUILTIN, "<b", default=0), code.scalar(_OpCode.BUILTIN, "<i", default=0)
    )
    if number not in _OP_NAMES:
        raise _DamagedError(f"unknown operator code {number}")
    return _OP_NAMES[number]


def _op_in_graph(op: _Table, codes: list[str], tensor_count: int) -> str:
    operands = op.numbers(_Op.INPUTS, "i", limit=MAX_OPERANDS)
    results = op.numbers(_Op.OUTPUTS, "i", limit=MAX_OPERANDS)
    # -1 stands for an optional operand that is absent.
    if not all(-1 <= index < tensor_count for index in operands) or not all(
        0 <= index < tensor_count for index in results
    ):
        raise _DamagedError("an operator with a tensor that is not there")
    op.table(_Op.OPTIONS)
    code = op.scalar(_Op.CODE, "<I", default=0)
    if code >= len(codes):
        raise _DamagedError(f"an operator of code {code} of {len(codes)}")
    return codes[code]


def _only(graph: _Table, field: _Graph, tensors: list[TensorFacts]) -> TensorFacts:
    indexes = graph.numbers(field, "i", limit=MAX_OPERANDS)
    if len(indexes) != 1 or not 0 <= indexes[0] < len(tensors):
        raise _DamagedError(f"not one valid tensor in {field.name.lower()}")
    return tensors[int(indexes[0])]


def _follow(data: bytes, place: int) -> int:
    return place + int(_unpack(data, place, "<I")[0])


def _unpack(data: bytes, position: int, kind: str) -> tuple[int, ...]:
    _check_span(data, position, struct.calcsize(kind))
    return struct.unpack_from(kind, data, position)


def _check_span(data: bytes, start: int, size_bytes: int) -> None:
    if start < 0 or start + size_bytes > len(data):
        raise _DamagedError("it runs past the end of the file")
