"""What a user may choose about a conversion; the manifest of a build records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from quantize.affine import StepType

Goal = Literal["balance", "speed", "ram", "flash"]
GOALS: tuple[Goal, ...] = get_args(Goal)

RANGES = ("min-max", "percentile", "entropy", "mse")
WEIGHT_RANGES = ("min-max", "mse")
ROUNDINGS = ("nearest", "adaptive")


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """`calibration_clips` is how many training clips, or given inputs, set the ranges.

    `activations` is what the device computes with between input and output; weights are int8 either way. `optimize` is
    what an int8 lowering keeps small, where it has a choice: instructions (speed), arena (ram), file (flash) or the
    product of all three.

    `ranges`, of activations, is one of RANGES (`quantize.calibration.methods`), `weight_ranges` one of WEIGHT_RANGES
    (`quantize.weight_ranges`) and `rounding`, of weights, one of ROUNDINGS (`quantize.rounding`). `equalization` is
    `quantize.equalization`, `bias_correction` is part of `quantize.recovery`.
    """

    calibration_clips: int = 200
    activations: StepType = "int8"
    optimize: Goal = "balance"
    ranges: str = "min-max"
    weight_ranges: str = "min-max"
    equalization: bool = True
    bias_correction: bool = True
    rounding: str = "nearest"
