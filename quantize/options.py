"""What a user may choose about a conversion; the manifest of a build records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from quantize.affine import StepType

Goal = Literal["balance", "speed", "ram", "flash"]
GOALS: tuple[Goal, ...] = get_args(Goal)


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """`calibration_clips` is how many training clips, or given inputs, set the ranges.

    `activations` is what the device computes with between input and output; weights are int8 either way. `optimize` is
    what an int8 lowering keeps small, where it has a choice: instructions (speed), arena (ram), file (flash) or the
    product of all three.
    """

    calibration_clips: int = 200
    activations: StepType = "int8"
    optimize: Goal = "balance"
