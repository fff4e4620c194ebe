"""A small typed graph of an int8 or int16 network, in NHWC (frequency = H, time = W) and free of flatbuffer types.

Lowering yields it, emitters read it, passes rewrite it with dataclasses.replace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quantize.affine import Affine

DType = Literal["int8", "int16", "int32", "int64"]
Pair = tuple[int, int]
"""(along H, along W)."""


PLAIN_NUMBERS = Affine(1.0, 0)
"""Of int32 tensors that count: no quantization is written for them."""


class Padding(Enum):
    """VALID pads nothing; SAME pads with the zero point so that output = ceil(input / stride), more at the end."""

    VALID = "VALID"
    SAME = "SAME"


class Activation(Enum):
    """What an op clamps its output to before storing it."""

    NONE = "NONE"
    RELU = "RELU"
    RELU6 = "RELU6"


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """An activation (`data` is None) or a constant.

    `shape` is NHWC or (N, C); int8 and int16 tensors have an `affine`, a bias (int32 beside int8, int64 beside int16)
    has the product of its input's and its weights' scales, other int32 tensors are plain numbers.
    """

    name: str
    shape: tuple[int, ...]
    affine: Affine
    dtype: DType = "int8"
    data: npt.NDArray[np.signedinteger[Any]] | None = None

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class Conv2D:
    """Inputs: x (1, H, W, I), weights (O, kernel H, kernel W, I) with a scale per O, bias (O,)."""

    stride: Pair
    dilation: Pair
    padding: Padding
    activation: Activation


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv2D:
    """Inputs: x (1, H, W, C), weights (1, kernel H, kernel W, C * depth_multiplier) with a scale per channel, bias."""

    stride: Pair
    dilation: Pair
    padding: Padding
    activation: Activation
    depth_multiplier: int


@dataclass(frozen=True, kw_only=True)
class FullyConnected:
    """Inputs: x (1, I), weights (O, I) with a scale per O (int16: one scale), bias (O,)."""

    activation: Activation


@dataclass(frozen=True, kw_only=True)
class Add:
    """Inputs: two tensors of equal rank and dtype, broadcast against each other; either may be constant."""

    activation: Activation


@dataclass(frozen=True, kw_only=True)
class Mul:
    """Inputs: two tensors of equal rank, broadcast against each other; either may be constant."""

    activation: Activation


@dataclass(frozen=True)
class Relu:
    """max(x, 0) with a requantization, so that the largest integer is an upper bound."""


@dataclass(frozen=True)
class Logistic:
    """1 / (1 + exp(-x)); output scale 1/256, zero point -128, or int16 1/32768, 0."""


@dataclass(frozen=True)
class HardSwish:
    """x * clip(x + 3, 0, 6) / 6 of int8, with a requantization; `quantize.hard_swish` has the kernel's arithmetic."""


@dataclass(frozen=True)
class Cast:
    """int8 -> int32: the stored numbers as they are."""


@dataclass(frozen=True)
class Gather:
    """Inputs: a table (entries,) and int32 places in it; the output has the shape of the places, the table's affine."""


@dataclass(frozen=True)
class Softmax:
    """Over the last axis; output scale 1/256, zero point -128, or int16 1/32768, 0."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """x[begin : begin + size] on every axis; input and output share an affine."""

    begin: tuple[int, ...]
    size: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Concatenation:
    """At most 10 inputs along `axis`; inputs and output share an affine."""

    axis: int


@dataclass(frozen=True, kw_only=True)
class Pad:
    """(before, after) on every axis, filled with the zero point; input and output share an affine."""

    paddings: tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True)
class Reshape:
    """Input and output share an affine."""

    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Transpose:
    """Axis i of the output is axis `order[i]` of the input; input and output share an affine."""

    order: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Over `axes`, with a requantization."""

    axes: tuple[int, ...]
    keep_dims: bool


@dataclass(frozen=True, kw_only=True)
class AveragePool2D:
    """Padded places do not count; input and output share an affine."""

    window: Pair
    stride: Pair
    padding: Padding
    activation: Activation


@dataclass(frozen=True, kw_only=True)
class MaxPool2D:
    """Input and output share an affine."""

    window: Pair
    stride: Pair
    padding: Padding
    activation: Activation


Attributes = (
    Conv2D
    | DepthwiseConv2D
    | FullyConnected
    | Add
    | Mul
    | Relu
    | Logistic
    | HardSwish
    | Cast
    | Gather
    | Softmax
    | Slice
    | Concatenation
    | Pad
    | Reshape
    | Transpose
    | Mean
    | AveragePool2D
    | MaxPool2D
)


@dataclass(frozen=True)
class Op:
    """One op; the type of `attributes` says which. `inputs` and `output` name tensors of the graph."""

    attributes: Attributes
    inputs: tuple[str, ...]
    output: str

    @property
    def kind(self) -> str:
        return type(self.attributes).__name__


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """`ops` in the order in which they run; `tensors` by name, in the order in which they arise."""

    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
