"""How many instructions a quantized op takes under TFLM with CMSIS-NN, predicted for Cortex-M4 and Cortex-M55.

Each kernel has a formula: quantities that its loops run over, times coefficients in `costs/coefficients.json`.
`export.cost_fit` fits them to `costs/op_costs.csv`: instructions counted on emulated boards (mps2-an386, mps3-an547;
TFLM of August 2026, GCC 12). They are instructions, not cycles: no wait states, no caches, no dual issue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from export.cost_kernels import BINARY, CORES, Kernel, kernel_of, limits_of
from export.op_shape import OpShape, Pair, Shape
from export.tflite_reader import NO_TENSOR, OpFacts, TensorFacts, TfliteFacts, WindowFacts

MAX_RANK = 4
_DTYPES = {"INT8": "int8", "INT16": "int16", "INT32": "int32"}
COEFFICIENTS = Path(__file__).with_name("costs") / "coefficients.json"
Fitted = Mapping[str, Mapping[str, Any]]
"""By kernel name: "coefficients" by quantity, and "ranges" (lowest, highest measured) by limit."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`instructions` by core, None for an op that was never measured; `slow` as in Kernel, on Cortex-M4;
    `is_extrapolated`: no shape like this one was measured.
    """

    instructions: Mapping[str, int] | None
    slow: str
    is_extrapolated: bool


UNMEASURED = Estimate(instructions=None, slow="", is_extrapolated=True)


@dataclass(frozen=True, kw_only=True)
class ModelEstimate:
    """Of a whole model: `instructions` by core, without `unmeasured_ops`."""

    instructions: Mapping[str, int]
    unmeasured_ops: int


def estimate_ops(facts: TfliteFacts) -> list[Estimate]:
    """One estimate for each op of the model, in order."""
    shapes = [op_shape(op, facts.tensors) for op in facts.operators]
    return [UNMEASURED if shape is None else estimate(shape) for shape in shapes]


def total(estimates: Sequence[Estimate]) -> ModelEstimate:
    measured = [part.instructions for part in estimates if part.instructions is not None]
    return ModelEstimate(
        instructions={core: sum(part[core] for part in measured) for core in CORES},
        unmeasured_ops=len(estimates) - len(measured),
    )


def op_shape(op: OpFacts, tensors: Sequence[TensorFacts]) -> OpShape | None:
    """`op` as the formulas see it; None if its tensors are not of the types or form that TFLM's kernels take."""
    present = [tensors[index] for index in op.inputs if index != NO_TENSOR]
    if not present or tensors[op.outputs[0]].dtype not in _DTYPES or present[0].dtype not in _DTYPES:
        return None
    dtype = " ".join(dict.fromkeys((_DTYPES[present[0].dtype], _DTYPES[tensors[op.outputs[0]].dtype])))
    output, window = tensors[op.outputs[0]].shape, op.window
    operands = present if op.name == "CONCATENATION" else present[:2] if op.name in BINARY else present[:1]
    shapes = tuple(tensor.shape for tensor in operands)
    if any(not 1 <= len(shape) <= MAX_RANK for shape in (output, *shapes)):
        return None
    if op.name == "CONCATENATION" and len({len(shape) for shape in (output, *shapes)}) > 1:
        return None
    if op.name == "FULLY_CONNECTED" and len(present) > 1 and present[1].shape:
        shapes = (present[1].shape[-1:],)
    if window is None:
        return OpShape(kind=op.name, inputs=shapes, output=output, dtype=dtype)
    if window.size is None:
        found = _convolution_shape(op.name, window, present, output)
    else:
        found = _windowed_shape(op.name, window, shapes, output, window.size)
    return None if found is None else replace(found, dtype=dtype)


def estimate(op: OpShape) -> Estimate:
    """The instructions of one call of `op`."""
    parts = {core: _on_core(op, core) for core in CORES}
    found = {core: part for core, part in parts.items() if part is not None}
    if len(found) < len(CORES):
        return UNMEASURED
    return Estimate(
        instructions={core: predict(kernel, op, fitted) for core, (kernel, fitted) in found.items()},
        slow=found["cortex_m4"][0].slow,
        is_extrapolated=any(_is_outside(op, fitted[kernel.name]["ranges"]) for kernel, fitted in found.values()),
    )


def predict(kernel: Kernel, op: OpShape, fitted: Fitted) -> int:
    """Instructions of `op` on `kernel`, of which `fitted` must have the coefficients."""
    weights: Mapping[str, float] = fitted[kernel.name]["coefficients"]
    return max(0, round(sum(weights[name] * value for name, value in kernel.quantities(op).items())))


def _convolution_shape(name: str, window: WindowFacts, operands: list[TensorFacts], output: Shape) -> OpShape | None:
    if len(operands) < 2 or operands[1].data is None or len(operands[1].shape) != MAX_RANK:
        return None
    _, height, width, weight_channels = operands[1].shape
    channels = operands[0].shape[-1]
    if name == "CONV_2D" and channels % weight_channels:
        return None
    groups = channels // weight_channels if name == "CONV_2D" else 1
    return _windowed_shape(name, window, (operands[0].shape,), output, (height, width), groups)


def _windowed_shape(
    name: str, window: WindowFacts, inputs: tuple[Shape, ...], output: Shape, kernel: Pair, groups: int = 1
) -> OpShape | None:
    if len(inputs[0]) != MAX_RANK or len(output) != MAX_RANK:
        return None
    return OpShape(
        kind=name,
        inputs=inputs,
        output=output,
        kernel=kernel,
        stride=window.stride,
        dilation=window.dilation,
        same_padding=window.same_padding,
        groups=groups,
    )


def _on_core(op: OpShape, core: str) -> tuple[Kernel, Fitted] | None:
    kernel, fitted = kernel_of(op, core), _coefficients()[core]
    return None if kernel is None or kernel.name not in fitted else (kernel, fitted)


def _is_outside(op: OpShape, ranges: Mapping[str, tuple[int, int]]) -> bool:
    return any(not ranges[name][0] <= value <= ranges[name][1] for name, value in limits_of(op).items())


@cache
def _coefficients() -> Mapping[str, Fitted]:
    found: Mapping[str, Fitted] = json.loads(COEFFICIENTS.read_text(encoding="utf-8"))
    return found
