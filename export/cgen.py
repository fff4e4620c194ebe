"""Small pure functions that turn Python values into C: literals, identifiers, arrays, op registrations.

Everything that reaches a template passes through here, so a label or a file name from a stranger stays data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError

LINE_WIDTH = 100
RESERVED_IDENTIFIERS = frozenset({"kLabelCount"})

_PLAIN_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F))) - frozenset('"\\?')

# Schema name -> method of MicroMutableOpResolver in TFLM (micro_mutable_op_resolver.h): camel case, with exceptions.
_ADD_METHODS = {
    "ABS": "AddAbs",
    "ADD": "AddAdd",
    "ADD_N": "AddAddN",
    "ARG_MAX": "AddArgMax",
    "ARG_MIN": "AddArgMin",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "BATCH_TO_SPACE_ND": "AddBatchToSpaceNd",
    "BROADCAST_TO": "AddBroadcastTo",
    "CAST": "AddCast",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEPTH_TO_SPACE": "AddDepthToSpace",
    "DEQUANTIZE": "AddDequantize",
    "DIV": "AddDiv",
    "ELU": "AddElu",
    "EXP": "AddExp",
    "EXPAND_DIMS": "AddExpandDims",
    "FULLY_CONNECTED": "AddFullyConnected",
    "GATHER": "AddGather",
    "HARD_SWISH": "AddHardSwish",
    "L2_NORMALIZATION": "AddL2Normalization",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOG": "AddLog",
    "LOGISTIC": "AddLogistic",
    "LOG_SOFTMAX": "AddLogSoftmax",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MIRROR_PAD": "AddMirrorPad",
    "MUL": "AddMul",
    "NEG": "AddNeg",
    "PACK": "AddPack",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "REDUCE_MAX": "AddReduceMax",
    "REDUCE_MIN": "AddReduceMin",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "REVERSE_V2": "AddReverseV2",
    "RSQRT": "AddRsqrt",
    "SHAPE": "AddShape",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPACE_TO_BATCH_ND": "AddSpaceToBatchNd",
    "SPACE_TO_DEPTH": "AddSpaceToDepth",
    "SPLIT": "AddSplit",
    "SPLIT_V": "AddSplitV",
    "SQRT": "AddSqrt",
    "SQUARE": "AddSquare",
    "SQUARED_DIFFERENCE": "AddSquaredDifference",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "SUM": "AddSum",
    "SVDF": "AddSvdf",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
    "TRANSPOSE_CONV": "AddTransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    "UNPACK": "AddUnpack",
}


# Ops for which headers that micro_mutable_op_resolver.h includes declare Register_..._INT8 or _INT16.
_ONE_TYPE_KERNELS = {
    "INT8": frozenset(
        (
            *("ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAXIMUM"),
            *("MAX_POOL_2D", "MINIMUM", "MUL", "SOFTMAX", "SVDF", "TRANSPOSE_CONV"),
        )
    ),
    "INT16": frozenset(
        (
            *("ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
            *("MAX_POOL_2D", "SOFTMAX"),
        )
    ),
}


def c_float(value: float | np.float32) -> str:
    """The shortest decimal literal that a C compiler reads back as exactly float32(value), such as "1e-10f".

    Raises ValueError for NaN, infinity, and what is infinite as float32.
    """
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not np.isfinite(single):
        raise ValueError(f"{value} has no C literal")
    digits = str(single)
    return f"{digits}f" if set(digits) & set(".e") else f"{digits}.0f"


def c_string(text: str) -> str:
    """A C string literal, quotes included, of the UTF-8 bytes of `text`.

    Whatever is not plain ASCII becomes an octal escape: it ends after three digits, where a hexadecimal one would
    swallow the digits that follow. A question mark is escaped for the sake of trigraphs.

    Raises ValueError for a lone surrogate and for NUL, which would end the string.
    """
    data = text.encode("utf-8")
    if 0 in data:
        raise ValueError("a C string holds no NUL")
    return '"' + "".join(chr(b) if chr(b) in _PLAIN_CHARACTERS else f"\\{b:03o}" for b in data) + '"'


def c_comment(text: str) -> str:
    """`text` made fit for a comment: all but ASCII letters, digits, dot, dash and underscore become an underscore."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def c_array(items: Iterable[str]) -> str:
    """Initializer items in lines of at most LINE_WIDTH characters, indented by two, each followed by a comma."""
    lines: list[str] = []
    line = " "
    for item in items:
        if len(line) + len(item) + 2 > LINE_WIDTH:
            lines.append(line)
            line = " "
        line += f" {item},"
    return "\n".join([*lines, line])


def c_float_array(values: npt.NDArray[np.float32]) -> str:
    return c_array(c_float(value) for value in values.ravel())


def c_int_array(values: npt.NDArray[np.integer[Any]]) -> str:
    return c_array(str(int(value)) for value in values.ravel())


def c_byte_array(data: bytes) -> str:
    return c_array(f"0x{byte:02x}" for byte in data)


def label_identifiers(labels: Sequence[str], prefix: str = "kLabel") -> list[str]:
    """One C identifier a label: "go left" -> kLabelGoLeft.

    A label with letters outside ASCII, or without any, is named by its index: kLabel_3. A name already taken gets
    the index too: kLabelGo_4. Only these hold an underscore, so no two names are equal.
    """
    taken = set(RESERVED_IDENTIFIERS)
    names: list[str] = []
    for index, label in enumerate(labels):
        words = re.findall(r"[A-Za-z0-9]+", label)
        foreign = any(character.isalnum() and not character.isascii() for character in label)
        name = prefix + "".join(word[0].upper() + word[1:] for word in words)
        if foreign or not words:
            name = f"{prefix}_{index}"
        elif name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        names.append(name)
    return names


def op_registrations(ops: Mapping[str, str | None], source: str) -> list[str]:
    """Calls on TFLM's MicroMutableOpResolver for the ops of a model, sorted: AddLogistic().

    `ops` tells for each (schema name) the one type that all its nodes read and write ("INT8"), or None. Where TFLM has
    kernels for that type alone, they are taken: AddConv2D(tflite::Register_CONV_2D_INT8()). They do not look at types.
    Raises KwsError, naming `source` and the op, for an op that TFLM does not run.
    """
    for op in ops:
        if op not in _ADD_METHODS:
            raise KwsError(
                f"{source}: the op {op} is not one that the firmware can run; convert the model with kws quantize."
            )
    return sorted(f"{_ADD_METHODS[op]}({_registration(op, dtype)})" for op, dtype in ops.items())


def _registration(op: str, dtype: str | None) -> str:
    return f"tflite::Register_{op}_{dtype}()" if op in _ONE_TYPE_KERNELS.get(dtype or "", ()) else ""
